"""Headline rows of README and docs: which runs they come from, and when again.

A run is one config with several seeds: each trains its own network, with its
own keys, and `experiments.main` or `experiments.attack` judges it. Its rows are
out of date once the code that they depend on differs from their commit; see
`experiments.tables.code`.
"""

import ast
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.run import results
from experiments.tables import code, over_seeds
from experiments.tables.code import ROOT
from keyjax.attacks import registry
from keyjax.attacks.intervals import clopper_pearson
from keyjax.schemes import registry as schemes

Row = Mapping[str, Any]
# Code that every figure depends on, in addition to its config, its schemes and
# attacks. The ciphers are not among them, nor the schemes that only encrypt:
# test vectors fix their bytes.
_CIPHERS = {f"keyjax/schemes/{x}.py" for x in ("counter", "deep_lock")}
_COMMON = (
  "keyjax/scheme.py",
  "keyjax/tree.py",
  "experiments/data",
  "experiments/models",
  "experiments/protection",
  "experiments/training",
  "experiments/run/config.py",
)
_PLAY = tuple(
  f"keyjax/attacks/{x}.py" for x in ("fit", "game", "referee", "views")
)
# A measurement of its own, and its modules: no other attack depends on them.
_PROPERTIES = "property_inference"
_OF_PROPERTIES = tuple(
  f"experiments/attacking/{x}.py"
  for x in (
    _PROPERTIES,
    "classifiers",
    "known_pair",
    "locked_nets",
    "private_nets",
    "shadows",
  )
)
_SAME = (
  "config",
  "dataset",
  "model",
  "classes",
  "scheme",
  "title",
  "mechanism",
  "options",
  "attack",
  "attack_title",
  "game",
  "condition",
  "metric",
  "attacker",
  "budget",
)


class Run(NamedTuple):
  """One config that headline rows come from.

  Attributes:
    name: Config file in `configs/`, without its suffix.
    only: Regular expression of the pairs SCHEME/ATTACK of `experiments.attack`;
      empty for a table of `experiments.main`.
  """

  name: str
  only: str = ""

  @property
  def is_table(self) -> bool:
    """Whether the rows are accuracies, with and without keys."""
    return not self.only

  def command(self, seed: int, workdir: pathlib.Path) -> list[str]:
    """Return the arguments of `python -m` for one seed."""
    program = "main" if self.is_table else "attack"
    only = [f"--only={self.only}"] if self.only else []
    return [
      f"experiments.{program}",
      f"--config=configs/{self.name}.py",
      f"--config.train.seed={seed}",
      f"--workdir={workdir}",
      *only,
    ]


RUNS = (
  Run("table_mnist"),
  Run("attack_hpnn", r"hpnn/(statistics|(oracle|algebra)_32|\w+_0)"),
  Run("matrix", r"(none|counter|hpnn|shf|np|ffx)/(extract|labels)"),
  Run("attack_deep_lock", r"(float32|counter)/known|aes256/.*|int8/known_int8"),
  Run(
    "attack_pixel_shuffle",
    r"shf/(sinkhorn|scratch)|np/gates|(np|ffx)/conv|.*/jigsaw_100",
  ),
  Run("attack_cryptanalytic", r".*/(blind_10000|extract)"),
  Run("attack_properties", r".*/.*"),
  Run("attack_adv_range", r".*/.*"),
  Run("attack_new_key", r".*/.*"),
  Run("attack_batch_norm", r".*/.*"),
  Run("table_gtsrb"),
  Run("table_cifar10"),
  Run("detection"),
  Run("segmentation"),
)


def read(file: pathlib.Path) -> list[dict[str, Any]]:
  """Return the rows over seeds of a results file; none if it is absent.

  Raises:
    ValueError: If it is damaged, or holds no list of rows.
  """
  rows = results.read_json(file) if file.exists() else []
  if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
    raise ValueError(f"{file} is no list of rows; delete it, and measure again")
  return rows


def read_some(
  file: pathlib.Path, fields: Iterable[str], **which: str
) -> list[dict[str, Any]]:
  """Return the rows of a file that say something, with all fields needed.

  Args:
    file: The file.
    fields: Fields that these rows need.
    **which: What they say, such as `metric="key_bits"`.

  Raises:
    ValueError: If it is damaged, or such a row lacks a field.
  """
  rows = [r for r in read(file) if all(r.get(k) == v for k, v in which.items())]
  lacking = [x for x in fields for r in rows if x not in r]
  if lacking:
    raise ValueError(
      f"{file}: a row lacks {lacking[0]!r}, as of an older release; delete the "
      "file, and measure again"
    )
  return rows


def moved(run: Run, rows: Sequence[Row], seeds: int) -> str:
  """Return why the rows of a run are out of date; empty if they are not.

  Args:
    run: The run.
    rows: Its rows over seeds.
    seeds: Number of seeds that every row needs.
  """
  measured = [r for r in rows if "seeds" in r]
  if not measured:
    return "never run"
  fewest = min(len(r["seeds"]) for r in measured)
  if fewest < seeds:
    return f"{fewest} seeds only"
  used = {
    schemes.get(r["mechanism"]).factory for r in measured if r["mechanism"]
  }
  paths = [*_COMMON, f"configs/{run.name}.py"]
  paths += sorted(_files([x.__module__ for x in used]) - _CIPHERS)
  if not run.is_table:
    paths += [*_PLAY, "experiments/attacking"]
    if not any(r["game"] == _PROPERTIES for r in measured):
      paths += [f":(exclude){x}" for x in _OF_PROPERTIES]
    paths += sorted(_files({_module(r["game"]) for r in measured} - {""}))
  commits = dict.fromkeys(x for r in measured for x in r["commit"])
  changed = [c for c in commits if not code.same(c, paths)]
  return f"code moved since {', '.join(changed)}" if changed else ""


def _module(game: str) -> str:
  """Return the module of an attack; empty for a measurement without one."""
  try:
    return registry.get(game).run.__module__
  except ValueError:  # A measurement of `experiments.attacking`.
    return ""


def _files(modules: Iterable[str]) -> set[str]:
  """Return the files of modules, and those they import from their package.

  Example:
    >>> sorted(_files(["keyjax.schemes.identity"]))
    ['keyjax/schemes/identity.py', 'keyjax/schemes/registry.py']
  """
  waiting = set(modules)
  found: set[str] = set()
  while waiting:
    name = waiting.pop()
    file = f"{name.replace('.', '/')}.py"
    if file in found or not (ROOT / file).exists():
      continue
    found.add(file)
    package = ".".join(name.split(".")[:2])
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
      if isinstance(node, ast.ImportFrom) and _within(node.module, package):
        waiting |= {f"{node.module}.{x.name}" for x in node.names}
        waiting.add(str(node.module))
  return found


def _within(module: str | None, package: str) -> bool:
  return module is not None and f"{module}.".startswith(f"{package}.")


def over_runs(
  found: Sequence[Sequence[Row]], seeds: Sequence[int], network: str
) -> list[dict[str, Any]]:
  """Return a row for each pair of a scheme and an attack, over all seeds.

  Args:
    found: Rows of `experiments.attack` for each seed.
    seeds: The seeds.
    network: The network, in words.
  """
  made = []
  for first in found[0]:
    names = {k: first.get(k) for k in ("scheme", "attack")}
    rows = [results.find(x, **names) for x in found]
    if "attack" in first and None not in [r["value"] for r in rows]:
      made.append(_over_seeds(rows, seeds, network))
  return made


def _over_seeds(
  rows: Sequence[Row], seeds: Sequence[int], network: str
) -> dict[str, Any]:
  first = rows[0]
  details = [r["details"] for r in rows]
  made = {k: first[k] for k in _SAME if k in first} | {"network": network}
  made |= over_seeds.median([r["value"] for r in rows])
  if "property" in first:
    made |= {k: first[k] for k in ("property", "trained")}
    made["seen"] = first["setting"]["shadows"]
  if "nonfinite" in details[0]:
    made["nonfinite"] = [d["nonfinite"] for d in details]
  if "privacy" in first:
    made["privacy"] = first["privacy"]
  if "right" in first:
    made["right"] = over_seeds.median([r["right"] for r in rows])
  if "won" in details[0]:
    won = sum(d["won"] for d in details)
    games = sum(d["games"] for d in details)
    made["games"] = {"won": won, "of": games}
    made["games"]["low"], made["games"]["high"] = clopper_pearson(won, games)
  if "bits_right" in details[0]:
    made["bits"] = [[d["bits_right"], d["bits"]] for d in details]
  if "images" in details[0]:
    made["images"] = details[0]["images"]
  made["queries"] = [r["cost"]["queries"] for r in rows]
  made["seconds"] = [r["cost"]["seconds"] for r in rows]
  if first["condition"] == "right":  # The owner's: what a new key costs.
    made["curves"] = [
      [[p["steps"], p["value"]] for p in r["curve"]] for r in rows
    ]
  return made | {
    "seeds": list(seeds),
    "command": [over_seeds.without_folders(r["command"]) for r in rows],
    **{k: [r[k] for r in rows] for k in ("commit", "hardware", "jax", "date")},
  }


def network(config: Mapping[str, Any]) -> str:
  """Describe the network of a run.

  Args:
    config: Config, as `run.json` has it.

  Example:
    >>> model = {"model": "mlp", "model_args": {"hidden": [16]}}
    >>> network(model | {"dataset": "digits", "train": {"epochs": 30.0}})
    'digits, mlp (hidden 16), 30 epochs'
  """
  words = []
  for name, value in config["model_args"].items():
    many = value if isinstance(value, list) else [value]
    words.append(" ".join(map(str, [name, *many])))
  inner = f" ({', '.join(words)})" if words else ""
  epochs = f"{config['train']['epochs']:g} epochs"
  return f"{config['dataset']}, {config['model']}{inner}, {epochs}"
