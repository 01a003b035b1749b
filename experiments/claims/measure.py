"""Studies of a config: their tasks, rows and table.

A config has them in a field of the name of a command: `config.robustness` or
`config.poisoning`, with `studies`, their names, and `seeds`.
"""

import functools
import hashlib
import json
import types
from collections.abc import Callable, Sequence
from typing import Any

import rich.table
from ml_collections import ConfigDict

from experiments import data
from experiments.run import files, results
from experiments.run.tasks import Row, Task
from experiments.studies.base import Figure, Lab
from experiments.tables import survey

Get = Callable[[str], types.ModuleType]


def configure(config: ConfigDict, field: str, studies: Sequence[str]) -> None:
  """Add `config.FIELD`: names of studies, and the number of their seeds.

  Args:
    config: Config.
    field: Name of the command.
    studies: Names of its studies.
  """
  made = ConfigDict()
  made.seeds = 3  # From `train.seed` on.
  made.studies = tuple(studies)
  made.lock()
  with config.unlocked():
    config[field] = made


def check(field: str, config: ConfigDict, get: Get) -> None:
  """Check a config's studies before any of them runs.

  Args:
    field: Field of the config.
    config: Whole config.
    get: Function that returns a study by name.

  Raises:
    ValueError: If there is no such field, or a study is unknown or not of the
      config's data.
  """
  if field not in config:
    raise ValueError(
      f"the config has no {field}: see experiments.claims.measure.configure, "
      f"or use configs/{field}.py"
    )
  if config[field].seeds < 1:
    raise ValueError(f"{field}.seeds={config[field].seeds}: at least 1")
  for name in config[field].studies:
    known = get(name)
    if config.dataset not in known.DATASETS:
      raise ValueError(
        f"{field}.studies: {name} is measured on "
        f"{', '.join(known.DATASETS)}, not on dataset={config.dataset}"
      )


def tasks(
  field: str,
  config: ConfigDict,
  get: Get,
  dataset: data.Dataset,
  folder: files.AnyPath,
) -> list[Task]:
  """Return the tasks of the studies, for each seed.

  Args:
    field: Field of the config.
    config: Whole config.
    get: Function that returns a study by name.
    dataset: Images of the config.
    folder: Folder of the run; networks and pictures are stored in it.
  """
  made = []
  for name in config[field].studies:
    for i in range(config[field].seeds):
      lab = Lab(dataset, config.train.seed + i, folder / "studies")
      run = functools.partial(_measure, get(name), name, lab)
      title = f"{name}, seed {lab.seed}"
      made.append(Task(_task_name(config, name, lab.seed), title, run))
  return made


def _task_name(config: ConfigDict, study: str, seed: int) -> str:
  fields = [config.dataset, config.num_train, config.num_test, study, seed]
  return hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:16]


def _measure(study: Any, name: str, lab: Lab) -> list[Row]:
  return [_row(study, name, lab, figure) for figure in study.run(lab)]


def _row(study: Any, name: str, lab: Lab, figure: Figure) -> Row:
  made = results.row(
    {},
    metric=survey.METRIC,
    title=figure.name,
    study=name,
    study_title=study.TITLE,
    sentence=study.SENTENCE,
    seed=lab.seed,
    value=figure.value,
    low=figure.low,
    high=figure.high,
    # Numbers that are no shares, such as distances, have none.
    interval=figure.method if figure.low < figure.high else "",
    images=figure.n,
    target=figure.target,
  )
  if figure.curve:
    axis = getattr(study, "AXIS", "")
    made |= {"curve": figure.curve, "x": figure.x, "axis": axis}
    made |= {"drawn": figure.drawn}
  return made


def table(rows: Sequence[Row]) -> rich.table.Table:
  """Return the figures of the studies over their seeds."""
  made = rich.table.Table(title="Published claims, measured")
  for name in ("study", "figure"):
    made.add_column(name, overflow="fold")
  for name in ("mean", "least", "greatest", "published"):
    made.add_column(name, justify="right", overflow="fold")
  for r in survey.in_tables(survey.over_seeds(rows)):
    figures = [f"{r[k]:.3g}" for k in ("value", "low", "high")]
    made.add_row(r["study_title"], r["title"], *figures, r["target"])
  return made


def summary(row: Row) -> str:
  """Return a row's figure in words."""
  return f"{row['title']}: {row['value']:.4g}"
