"""The headline figures of README and docs, measured again and written there.

    python -m experiments.readme

It runs every config of `experiments.tables.headlines.RUNS` whose code moved
since the commit of its rows, with several seeds, each with its own network and
keys; writes RESULTS/<table>.json and .md, and RESULTS/attacks.json; and writes
the blocks of README.md and docs/ that quote them, between their markers. Run it
from a clean checkout: rows name the commit.

What to type next:
    --configs='attack_.*'      only these configs
    --seeds=5                  number of seeds; 3 by default
    --nomeasure                write the blocks from the results files alone
    --list                     say what is out of date, and run nothing
"""

import json
import pathlib
import re
from typing import Any

from absl import app, flags

from experiments import table
from experiments.run import errors, results
from experiments.run.measuring_flags import LIST, RUNS, SEEDS
from experiments.tables import blocks, headlines, playing, steps
from experiments.tables.code import ROOT
from experiments.tables.headlines import Run

_CONFIGS = flags.DEFINE_string("configs", ".*", "Regular expression.")
_MEASURE = flags.DEFINE_bool("measure", True, "Run what is out of date.")
_RESULTS = ROOT / "results"
_ATTACKS = _RESULTS / "attacks.json"
_OVERHEAD = ("overhead_training.json", "overhead_inference.json")


def measure(run: Run, seeds: int, home: pathlib.Path) -> None:
  """Run one config with several seeds, and write its rows.

  Args:
    run: The run.
    seeds: Number of seeds.
    home: Folder for runs; those of another commit have another folder.
  """
  folders = playing.play(run, seeds, home)
  if run.is_table:
    _write_table(run.name, folders)
  else:
    _write_attacks(run, folders)


def _write_table(name: str, folders: list[pathlib.Path]) -> None:
  """Write the table of a config, with what steps take, where they are timed."""
  files = [str(_RESULTS / x) for x in _OVERHEAD]
  timed = [x for x in files if steps.times(x, name)]
  table.write([str(x) for x in folders], timed, _RESULTS)


def _write_attacks(run: Run, folders: list[pathlib.Path]) -> None:
  """Replace the rows of one config; those of others stay."""
  found = [
    list(results.read_rows(folder / "rows.jsonl").values())
    for folder in folders
  ]
  config = json.loads((folders[0] / "run.json").read_text())["config"]
  made = headlines.over_runs(
    found, range(len(folders)), headlines.network(config)
  )
  others = [r for r in headlines.read(_ATTACKS) if r["config"] != run.name]
  order = [r.name for r in headlines.RUNS]
  rows = sorted(others + made, key=lambda r: order.index(r["config"]))
  results.write_json(_ATTACKS, rows)


def out_of_date(run: Run, seeds: int) -> str:
  """Return why a run's rows are out of date; empty if they are not."""
  rows: list[dict[str, Any]]
  if run.is_table:
    rows = headlines.read(_RESULTS / f"{run.name}.json")
  else:
    rows = [r for r in headlines.read(_ATTACKS) if r["config"] == run.name]
  return headlines.moved(run, rows, seeds)


def main(argv: list[str]) -> None:
  """Run from the command line."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  with errors.reported():
    for run in headlines.RUNS:
      why = out_of_date(run, SEEDS.value)
      print(f"{run.name}: {why or 'up to date'}", flush=True)
      wanted = re.fullmatch(_CONFIGS.value, run.name) and _MEASURE.value
      if why and wanted and not LIST.value:
        measure(run, SEEDS.value, pathlib.Path(RUNS.value).resolve() / "readme")
    if not LIST.value:
      for file in blocks.write_all(ROOT):
        print(f"Wrote {file}")


if __name__ == "__main__":
  app.run(main)
