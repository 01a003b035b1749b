"""Studies of a config: published claims, measured over seeds."""

import functools
from collections.abc import Sequence

import rich.table
from ml_collections import ConfigDict

from experiments import data, studies
from experiments.evasion import plan
from experiments.run import files, results
from experiments.run.tasks import Row, Task
from experiments.tables import survey


def check(config: ConfigDict) -> None:
  """Raise ValueError if a study is unknown, or not of the config's data."""
  for name in config.robustness.studies:
    known = studies.get(name)
    if config.dataset not in known.DATASETS:
      raise ValueError(
        f"robustness.studies: {name} is measured on "
        f"{', '.join(known.DATASETS)}, not on dataset={config.dataset}"
      )


def tasks(
  config: ConfigDict, dataset: data.Dataset, folder: files.AnyPath
) -> list[Task]:
  """Return the tasks of the studies, for each seed.

  Args:
    config: Whole config.
    dataset: Images of the config.
    folder: Folder of the run; networks are stored in it.
  """
  made = []
  for name in config.robustness.studies:
    for i in range(config.robustness.seeds):
      lab = studies.Lab(dataset, config.train.seed + i, folder / "studies")
      task = plan.study_name(config, name, lab.seed)
      title = f"{name}, seed {lab.seed}"
      made.append(Task(task, title, functools.partial(_measure, name, lab)))
  return made


def _measure(name: str, lab: studies.Lab) -> list[Row]:
  study = studies.get(name)
  return [
    results.row(
      {},
      metric=survey.METRIC,
      title=x.name,
      study=name,
      study_title=study.TITLE,
      sentence=study.SENTENCE,
      seed=lab.seed,
      value=x.value,
      low=x.low,
      high=x.high,
      # Numbers that are no shares, such as distances, have none.
      interval="Clopper-Pearson over examples" if x.low < x.high else "",
      images=x.n,
      target=x.target,
    )
    for x in study.run(lab)
  ]


def table(rows: Sequence[Row]) -> rich.table.Table:
  """Return the figures of the studies over their seeds."""
  made = rich.table.Table(title="Published claims, measured")
  for name in ("study", "figure"):
    made.add_column(name, overflow="fold")
  for name in ("mean", "least", "greatest", "published"):
    made.add_column(name, justify="right", overflow="fold")
  for r in survey.over_seeds(rows):
    figures = [f"{r[k]:.3g}" for k in ("value", "low", "high")]
    made.add_row(r["study_title"], r["title"], *figures, r["target"])
  return made
