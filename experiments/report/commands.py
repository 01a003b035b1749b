"""Commands to type next: this run changed, and the other configs."""

import ast
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.report.page import Html, definitions, element, section

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"


# Configs of a command of their own name.
_OWN = (
  "agents",
  "capability",
  "copies",
  "homomorphic",
  "poisoning",
  "pretrained",
  "privacy",
  "recording",
)


class Config(NamedTuple):
  """A config, as its file's header describes it.

  Attributes:
    name: Name of the run, as rows have it.
    argument: What follows `--config=configs/`.
    title: One line that describes it.
    program: Command of `experiments` that runs it.
  """

  name: str
  argument: str
  title: str
  program: str = "main"


def known() -> list[Config]:
  """Return the configs in `configs/`; none of their code is run."""
  return [c for file in sorted(CONFIGS.glob("*.py")) for c in _read(file)]


def _read(file: pathlib.Path) -> Iterator[Config]:
  """Yield a file's configs: one, or one for each `FILE:WORD` in its header."""
  source = file.read_text("utf-8")
  header = _header(source)
  program = "main"
  if file.stem in _OWN:
    program = file.stem
  elif "set_attacks(" in source:
    program = "attack"
  elif "configure(" in source:
    program = "robustness"
  elif file.stem.startswith("interpret_"):
    program = "interpret"
  words = re.findall(rf"--config=configs/{file.stem}\.py:(\w+)", header)
  if not words:
    title = (header or file.stem).splitlines()[0].rstrip(".:")
    yield Config(file.stem, file.name, title, program)
  # The line above a command says what it runs.
  titles = re.findall(rf"(.+):\n\n.*--config=configs/{file.stem}\.py:", header)
  for word, title in zip(words, titles, strict=True):
    yield Config(f"{word}_{file.stem}", f"{file.name}:{word}", title, program)


def _header(source: str) -> str:
  """Return the docstring of a config file; empty if there is none."""
  try:
    return ast.get_docstring(ast.parse(source)) or ""
  except SyntaxError:
    return ""


def try_next(rows: Sequence[Mapping[str, Any]]) -> Html:
  """Return a section of five commands to type next."""
  name = str(rows[0].get("config") or "quickstart") if rows else "quickstart"
  configs = {c.name: c for c in known()}
  own = configs.get(name, Config(name, f"{name}.py", name))
  run = own._replace(program="main")
  folder = f"runs/{own.name}"
  commands = [
    ("More wrong keys", _command(run, "_256", "evaluate.wrong_keys=256")),
    ("Another training run", _command(run, "_seed1", "train.seed=1")),
    (
      "Both runs side by side",
      f"python -m experiments.compare {folder} {folder}_seed1",
    ),
    *_attacks(rows, configs),
    ("All configs, each with its command", "head -n 4 configs/*.py"),
  ]
  shown = [(why, element("pre", element("code", c))) for why, c in commands]
  return section(
    "What to try next",
    "Any field of a config can be changed with --config.field=value; a "
    "changed config needs its own folder.",
    definitions(shown, "commands"),
  )


def _attacks(
  rows: Sequence[Mapping[str, Any]], configs: Mapping[str, Config]
) -> list[tuple[str, str]]:
  """Return a command that attacks the first lock that has a config for it."""
  for mechanism in dict.fromkeys(str(r.get("mechanism")) for r in rows):
    found = configs.get(f"attack_{mechanism}")
    if found is not None:
      return [(found.title, _command(found))]
  return []


def _command(config: Config, suffix: str = "", field: str = "") -> str:
  """Return the command line that runs a config."""
  lines = [
    f"python -m experiments.{config.program} "
    f"--config=configs/{config.argument}",
    f"--workdir=runs/{config.name}{suffix}",
  ]
  if field:
    lines.append(f"--config.{field}")
  return " \\\n  ".join(lines)
