"""The leaderboard: every registered scheme against the same attacker.

    python -m experiments.leaderboard

It runs configs/leaderboard.py, with several seeds, for each scheme that has no
rows in results/leaderboard.json, or whose code or attacks moved since; writes
them there, and the table of docs/leaderboard.md. Schemes of your own are in the
config as soon as they are registered. Run it from a clean checkout: rows name
the commit.

What to type next:
    --schemes=my_scheme        only these, a regular expression
    --seeds=5                  number of seeds; 3 by default
    --list                     say what is out of date, and run nothing
    python -m experiments.readme --nomeasure    write the table from the file
"""

import importlib.util
import json
import pathlib
import re
from typing import Any

from absl import app, flags
from ml_collections import ConfigDict

from experiments.run import errors, results
from experiments.run.measuring_flags import LIST, RUNS, SEEDS
from experiments.tables import blocks, headlines, leaderboard, playing
from experiments.tables.code import ROOT
from experiments.tables.headlines import Run

_SCHEMES = flags.DEFINE_string("schemes", ".*", "Regular expression.")
_NAME = "leaderboard"
_FILE = ROOT / "results" / leaderboard.FILE
_CONTROL = "identity"  # Training from scratch, of which others are a gain.


def labels() -> list[str]:
  """Return the labels of the config's schemes: every form of every scheme."""
  file = ROOT / "configs" / f"{_NAME}.py"
  spec = importlib.util.spec_from_file_location(_NAME, file)
  assert spec is not None and spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config: ConfigDict = module.get_config()
  return list(config.schemes)


def measure(label: str, seeds: int, home: pathlib.Path) -> None:
  """Play all attacks on one scheme, and replace its rows.

  Args:
    label: Label of the scheme in the config.
    seeds: Number of seeds, each with its own network, keys and attacker.
    home: Folder for runs.
  """
  folders = playing.play(_run(label), seeds, home)
  found = [
    [r for r in results.read_rows(x / "rows.jsonl").values() if _of(r, label)]
    for x in folders
  ]
  config = json.loads((folders[0] / "run.json").read_text())["config"]
  made = leaderboard.over_runs(found, headlines.network(config))
  others = [r for r in headlines.read(_FILE) if not _of(r, label)]
  order = labels()
  rows = [r for r in others + made if r["scheme"] in order]
  rows.sort(key=lambda r: order.index(r["scheme"]))
  results.write_json(_FILE, rows)


def _of(row: dict[str, Any], label: str) -> bool:
  return bool(row["scheme"] == label)


def _run(label: str) -> Run:
  return Run(_NAME, f"{label}/.*")


def main(argv: list[str]) -> None:
  """Run from the command line."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  with errors.reported():
    _refresh(labels())
    if not LIST.value:
      for file in blocks.write_all(ROOT):
        print(f"Wrote {file}")


def _refresh(every: list[str]) -> None:
  wanted = [x for x in every if re.fullmatch(_SCHEMES.value, x)]
  if not wanted:
    raise ValueError(
      f"--schemes={_SCHEMES.value!r} matches none of {', '.join(every)}"
    )
  for label in dict.fromkeys([_CONTROL, *wanted]):
    rows = [r for r in headlines.read(_FILE) if _of(r, label)]
    why = headlines.moved(_run(label), rows, SEEDS.value)
    print(f"{label}: {why or 'up to date'}", flush=True)
    if why and not LIST.value:
      measure(label, SEEDS.value, pathlib.Path(RUNS.value).resolve() / _NAME)


if __name__ == "__main__":
  app.run(main)
