r"""Whether a capability needs its key: routed training against a password.

    python -m experiments.capability --config=configs/capability.py \
      --workdir=runs/capability

It trains models on a public and a restricted task, seals the routed one in
tiers, and attacks what opens without the restricted tier's key. It appends a
row for each seed and figure to WORKDIR/capability.jsonl, skips tasks and seeds
that are there, and draws WORKDIR/capability.html. docs/capability.md explains
the figures.

What to type next:
    --config.seeds=5                       more seeds
    --config.tasks="('digits',)"           only this task
    --config.digits.sweep.steps="(1000,)"  longer attacks
    --copy=FILE                            the figures, for a document
"""

import functools
from collections.abc import Iterator
from typing import Any

import rich.console
import rich.table
from absl import app
from ml_collections import ConfigDict

import keyjax
from experiments.capabilities import figures, measure
from experiments.report import capability as report
from experiments.run import copy_flag, files, notes, results
from experiments.run import flags as run_flags

Row = dict[str, Any]


def run(
  config: ConfigDict,
  workdir: str,
  keydir: str = "",
  secret: keyjax.Secret | None = None,
  copy: str = "",
) -> list[Row]:
  """Measure what a config asks for, and return the figures over seeds.

  Args:
    config: Config from `configs/capability.py`.
    workdir: Folder for rows and the page.
    keydir: Not used: keys of tiers are made for a run, and not kept.
    secret: Not used either.
    copy: Another file for the figures.

  Raises:
    ValueError: If a field of the config is out of range.
  """
  del keydir, secret
  console = rich.console.Console()
  note = notes.with_seconds(console)

  todo = measure.tasks(config, note)
  folder = files.path(workdir)
  folder.mkdir(parents=True, exist_ok=True)
  file = folder / "capability.jsonl"

  def done(name: str, new: list[Row], left: int) -> None:
    del new, left
    label, seed, _ = name.split("/")
    note(f"{label}: seed {seed} is done")

  found = figures.over_seeds(results.resume(file, todo, done))
  if copy:
    results.write_json(files.path(copy), found)
  page = folder / "capability.html"
  report.write(page, found)
  console.print(*tables(found))
  console.print(f"Rows:    {file}")
  console.print(f"Report:  {page}")
  return found


def tables(rows: list[Row]) -> Iterator[rich.table.Table]:
  """Yield a table of each task and attack: models by demonstrations."""
  for task, attack, title in figures.attacks(rows):
    counts, lines = figures.grid(rows, task, attack)
    made = rich.table.Table(title=f"{task}: {title}")
    made.add_column("demonstrations")
    for count in counts:
      made.add_column(f"{count}", justify="right")
    for name, found in lines.items():
      made.add_row(name, *(f"{r['value']:.3f}" for r in found))
    yield made


def main(argv: list[str]) -> None:
  """Run from the command line."""
  run_flags.run_command(argv, functools.partial(run, copy=copy_flag.COPY.value))


if __name__ == "__main__":
  app.run(main, flags_parser=run_flags.parse_flags)
