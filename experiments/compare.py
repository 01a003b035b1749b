"""Runs side by side: what each lock keeps, and what it leaves without its key.

    python -m experiments.compare runs/quickstart runs/mnist

The folders are workdirs of `experiments.main`, of any configs. The command
prints a table: for each run the accuracy, or what judges its task, with the
right key, without a key, and with the best wrong key, beside the key space and
the verdict of each lock.

What to type next:
    --html=FILE                      a page with intervals
    python -m experiments.table      seeds of one config: means and intervals
"""

import os
from collections.abc import Sequence
from typing import Any

import rich.console
import rich.table
from absl import app, flags

from experiments.report import compare, tables
from experiments.report.svg import THIN
from experiments.run import errors, files
from experiments.tables import runs

_HTML = flags.DEFINE_string("html", "", "File for a page; none by default.")


def main(argv: list[str]) -> None:
  """Run from the command line."""
  with errors.reported():
    found = read(argv[1:])
    if _HTML.value:
      files.write(files.path(_HTML.value), compare.render(found))
  console = rich.console.Console()
  console.print(table(found))
  for title, words in tables.verdicts(compare.locks(found)).items():
    console.print(f"{title}: {words.replace(THIN, ' ')}", markup=False)
  if _HTML.value:
    console.print(f"Page: {_HTML.value}", markup=False)


def read(folders: Sequence[str]) -> list[compare.Side]:
  """Read finished runs.

  Args:
    folders: Workdirs of `experiments.main`, at least two.

  Raises:
    ValueError: If there are fewer, one is there twice, or has no finished run;
      the message names it.
  """
  names = [os.path.normpath(x) for x in folders]
  if len(names) < 2:
    raise ValueError("name the workdirs of two runs or more")
  twice = next((x for x in names if names.count(x) > 1), None)
  if twice:
    raise ValueError(f"{twice} is there twice")
  return [compare.side(name, _rows(name)) for name in names]


def _rows(name: str) -> list[dict[str, Any]]:
  rows = runs.read_one(name).rows
  if not any(r["condition"] == "plain" for r in rows):
    raise ValueError(f"{name} is not the folder of a run of experiments.main")
  return rows


def table(sides: Sequence[compare.Side]) -> rich.table.Table:
  """Return the right key, no key and the best wrong key of each run, in %."""
  made = rich.table.Table(title="right key | no key | best wrong key, in %")
  made.add_column("lock", overflow="fold")
  for side in sides:
    made.add_column(side.name, justify="right", overflow="fold")
  for title in compare.titles(sides):
    cells = (compare.figures(s, title) for s in sides)
    made.add_row(title, *(" | ".join(x) for x in cells))
  return made


if __name__ == "__main__":
  app.run(main)
