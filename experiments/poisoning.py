r"""What poisoned training data does to models, and what defences are worth.

    python -m experiments.poisoning --config=configs/poisoning.py:digits \
      --workdir=runs/digits_poisoning

It measures the config's studies, files of experiments/poisons, with several
seeds. It appends one row for each figure to WORKDIR/poisoning.jsonl; what is
there is not measured again: stop at any time, run the same command to continue.
WORKDIR/poisoning.html has the figures over seeds, curves and pictures;
docs/attacks/poisoning.md explains them.

What to type next:
    --config=configs/poisoning.py:mnist           the same on MNIST
    --config.poisoning.studies="('label_flips',)" only these studies
    --config.poisoning.seeds=5                    more seeds
    --copy=FILE                                   the figures, for a document
"""

import functools
from typing import Any

import rich.console
from absl import app
from ml_collections import ConfigDict

import keyjax
from experiments import data, poisons
from experiments.claims import measure
from experiments.report import poisoning as report
from experiments.run import copy_flag, files, pictures, results
from experiments.run import flags as run_flags
from experiments.run import tasks as run_tasks
from experiments.tables import survey

Row = dict[str, Any]


def run(
  config: ConfigDict,
  workdir: str,
  keydir: str = "",
  secret: keyjax.Secret | None = None,
  copy: str = "",
) -> list[Row]:
  """Measure what a config asks for, and return the rows.

  Args:
    config: Config with `poisoning`; see `experiments.claims.measure.configure`.
    workdir: Folder for rows, networks and pictures; it never holds a key.
    keydir: Not used: studies of locks make their keys, and keep none.
    secret: Not used either.
    copy: File for the figures over seeds, which a document quotes.

  Raises:
    ValueError: If the config is wrong; the message says how.
    FileNotFoundError: If the data set is not on this machine.
  """
  del keydir, secret
  measure.check("poisoning", config, poisons.get)
  console = rich.console.Console()
  say = functools.partial(console.print, markup=False)
  dataset = data.from_config(config)
  folder = files.path(workdir)
  folder.mkdir(parents=True, exist_ok=True)
  file = folder / "poisoning.jsonl"
  todo = measure.tasks("poisoning", config, poisons.get, dataset, folder)
  found = run_tasks.measured(
    todo,
    file,
    _row_base(config, dataset),
    say,
    lambda rows: map(measure.summary, rows),
  )
  figures = survey.over_seeds(found)
  results.write_json(folder / "poisoning.json", figures)
  if copy:
    results.write_json(files.path(copy), figures)
  page = folder / "poisoning.html"
  report.write(page, found, pictures.read(folder / "studies"))
  console.print(measure.table(found))
  console.print(f"Rows:    {file}")
  console.print(f"Report:  {page}")
  return found


def _row_base(config: ConfigDict, dataset: data.Dataset) -> Row:
  return results.provenance() | {
    "config": config.name,
    "dataset": dataset.name,
    "model": config.model,
    "classes": dataset.num_classes,
    "source": dataset.source,
  }


def main(argv: list[str]) -> None:
  """Run from the command line."""
  run_flags.run_command(argv, functools.partial(run, copy=copy_flag.COPY.value))


if __name__ == "__main__":
  app.run(main, flags_parser=run_flags.parse_flags)
