r"""What gradients and on-line updates record of the inputs behind them.

    python -m experiments.recording --config=configs/recording.py \
      --workdir=runs/recording

It computes gradients as workers of distributed training send them: of one
image and of several, fresh and trained networks, averaged, clipped, with noise,
under locks; and recovers images from them. It trains models that go on learning
from what they serve, and asks who was served. It appends rows for each scene
and seed to WORKDIR/recording.jsonl, skips those that are there, and draws
WORKDIR/recording.html. `keyjax card` takes the figures over seeds of
WORKDIR/recording.json; docs/attacks/gradients.md explains them. It needs
keyjax[privacy].

What to type next:
    --config.parts="('online',)"               only on-line learning
    --config.gradients.attacks="('division',)" only this attack
    --config.gradients.locks="('hpnn',)"       only this lock
    --config.gradients.networks="('mlp_relu',)" only this network
    --config.seeds=5                           more seeds
    --copy=FILE                                the figures, for a document
"""

import functools
import itertools
import time
from collections.abc import Iterator
from typing import Any

import rich.console
import rich.table
from absl import app
from ml_collections import ConfigDict

import keyjax
from experiments import data
from experiments.recordings import figures, measure, plan
from experiments.report import recording as report
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
    config: Config from `configs/recording.py`.
    workdir: Folder for rows and the page.
    keydir: Not used: keys are made for a scene, and not kept.
    secret: Not used either.
    copy: Another file for the figures, without pictures.

  Raises:
    ValueError: If a field of the config is out of range, or the data set does
      not open.
    KeyringError: If a package is missing.
  """
  del keydir, secret
  console = rich.console.Console()
  note = notes.with_seconds(console)
  plan.check(config)
  dataset = data.load(
    config.dataset, config.data_dir or None, guard=data.guard_of(config)
  )
  todo = measure.tasks(config, dataset)
  folder = files.path(workdir)
  folder.mkdir(parents=True, exist_ok=True)
  file = folder / "recording.jsonl"
  start, counted = time.monotonic(), itertools.count(1)

  def done(name: str, new: list[Row], left: int) -> None:
    del name
    minutes = (time.monotonic() - start) / next(counted) * left / 60
    what = f"{new[0]['title']}: {new[0]['scene'] or 'on-line learning'}"
    note(f"{what}, seed {new[0]['seed']}: {left} left, {minutes:.0f} min")

  found = figures.over_seeds(results.resume(file, todo, done))
  kept = [
    {k: v for k, v in r.items() if k not in report.PICTURES} for r in found
  ]
  results.write_json(folder / "recording.json", kept)
  if copy:
    results.write_json(files.path(copy), kept)
  page = folder / "recording.html"
  report.write(page, found)
  console.print(*tables(found))
  console.print(f"Rows:    {file}")
  console.print(f"Report:  {page}")
  return found


def tables(rows: list[Row]) -> Iterator[rich.table.Table]:
  """Yield a table of gradients, and one of on-line learning."""
  for title, lines, columns in report.parts(rows):
    made = rich.table.Table(title=title)
    for name in report.PLACES[title]:
      made.add_column(name, overflow="fold")
    for name in columns.values():
      made.add_column(name, justify="right")
    for place, found in lines.items():
      shown = (
        f"{found[k]['value']:.3f}" if k in found else "" for k in columns
      )
      made.add_row(*place, *shown)
    yield made


def main(argv: list[str]) -> None:
  """Run from the command line."""
  run_flags.run_command(argv, functools.partial(run, copy=copy_flag.COPY.value))


if __name__ == "__main__":
  app.run(main, flags_parser=run_flags.parse_flags)
