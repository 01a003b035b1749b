r"""What agents learn from being interrupted, and whether they avoid shutdown.

    python -m experiments.agents --config=configs/agents.py \
      --workdir=runs/agents

It measures a game of one state, the same where an action needs a capability
token, two cars (with tables and with networks), an off switch, and POWER, over
the seeds and settings of the config; and what planners earn, and what harm they
do, in annotated trees and text games. It appends rows to WORKDIR/agents.jsonl,
skips experiments that are there, and draws WORKDIR/agents.html. docs/agents.md
explains the figures.

What to type next:
    --config.seeds=50                      more seeds
    --config.two_cars.steps=100000         longer learning
    --config.experiments="('power',)"      only these
    --copy=FILE                            all rows, for a document
"""

import functools
from collections.abc import Iterator
from typing import Any

import rich.console
import rich.table
from absl import app
from ml_collections import ConfigDict

import keyjax
from experiments.interruption import figures, measure
from experiments.report import agents as report
from experiments.run import copy_flag, files, notes, results
from experiments.run import flags as run_flags

Row = dict[str, Any]

_UNITS = {"power": "rooms", "penalty": "penalty"}  # Of the columns of tables.


def run(
  config: ConfigDict,
  workdir: str,
  keydir: str = "",
  secret: keyjax.Secret | None = None,
  copy: str = "",
) -> list[Row]:
  """Measure what a config asks for, and return the rows.

  Args:
    config: Config from `configs/agents.py`.
    workdir: Folder for rows and the page.
    keydir: Not used: keys of tokens are made for a run, and not kept.
    secret: Not used either.
    copy: Another file for all rows.

  Raises:
    ValueError: If a field of the config is out of range.
  """
  del keydir, secret
  todo = measure.tasks(config)
  console = rich.console.Console()
  folder = files.path(workdir)
  folder.mkdir(parents=True, exist_ok=True)
  file = folder / "agents.jsonl"
  note = notes.with_seconds(console)

  def done(name: str, new: list[Row], left: int) -> None:
    del new, left
    note(name.partition("/")[0])

  found = results.resume(file, todo, done)
  if copy:
    results.write_json(files.path(copy), found)
  page = folder / "agents.html"
  report.write(page, found)
  console.print(*tables(found))
  console.print(f"Rows:    {file}")
  console.print(f"Report:  {page}")
  return found


def tables(rows: list[Row]) -> Iterator[rich.table.Table]:
  """Yield a table of each figure, of learners by theta or rooms."""
  for (experiment, metric), title in measure.METRICS.items():
    xs, lines = figures.grid(rows, experiment, metric)
    if not xs:
      continue
    made = rich.table.Table(title=title)
    made.add_column(_UNITS.get(experiment.rpartition("_")[-1], "theta"))
    for x in xs:
      made.add_column(f"{x:g}", justify="right")
    for name, found in lines.items():
      made.add_row(name, *(f"{r['value']:.2f}" for r in found))
    yield made


def main(argv: list[str]) -> None:
  """Run from the command line."""
  run_flags.run_command(argv, functools.partial(run, copy=copy_flag.COPY.value))


if __name__ == "__main__":
  app.run(main, flags_parser=run_flags.parse_flags)
