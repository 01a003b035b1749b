"""Measurements of the models of a config, one after the other."""

import functools
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from experiments.evasion import measure, pictures, plan
from experiments.evasion.models import Judged, Models
from experiments.protection.job import Job
from experiments.run import files, results
from experiments.run.tasks import Row, Task
from keyjax import defenses
from keyjax.attacks import evasion, transfer_matrix

AUDIT = "gradient masking"
TRANSFER = "transfer"
_AUDIT_IMAGES = 200


def of_models(
  config: ConfigDict,
  jobs: Mapping[str, Job],
  folder: files.AnyPath,
  only: str = plan.ALL,
) -> list[Task]:
  """Return the tasks of each model: its accuracy, attacks, audit.

  Args:
    config: Config with `schemes` and `robustness`.
    jobs: Job of each defence.
    folder: Folder for pictures.
    only: Regular expression of the models.
  """
  models = Models(config, jobs)
  fields = config.robustness
  made: list[Task] = []
  if not fields.attacks:
    return made
  for model in plan.models(config, only):
    get = functools.partial(models.get, model)
    shown = model == plan.models(config)[0]
    add = functools.partial(_task, config, model)
    run = functools.partial(_clean, get, fields.images)
    made.append(add("clean", fields.images, run))
    for label, spec in fields.attacks.items():
      if re.fullmatch(spec["models"], model):
        run = functools.partial(
          _attack, get, config, label, spec, folder if shown else None
        )
        made.append(add(label, [spec, fields.images], run))
    if re.fullmatch(fields.audit, model):
      epsilon = _largest_epsilon(config)
      run = functools.partial(_audit, get, config, epsilon)
      made.append(add("audit", [fields.images, epsilon], run))
  return [*made, *_of_pairs(config, models, only)]


def _of_pairs(config: ConfigDict, models: Models, only: str) -> list[Task]:
  """Return the task of the transfer matrix, if there are two models for it."""
  names = [
    name
    for name in plan.models(config, only)
    if re.fullmatch(config.robustness.matrix, name)
  ]
  if len(names) < 2:
    return []
  hashes = [plan.row_name(config, x, "matrix") for x in names]
  epsilon = _largest_epsilon(config)
  what = json.dumps([hashes, config.robustness.images, epsilon])
  name = hashlib.sha256(what.encode()).hexdigest()[:16]
  run = functools.partial(_matrix, config, models, names, epsilon)
  return [Task(name, f"transfer between {len(names)} models", run)]


def _task(
  config: ConfigDict, model: str, label: str, what: Any, run: Any
) -> Task:
  return Task(
    plan.row_name(config, model, label, what), f"{model}, {label}", run
  )


def _clean(get: Callable[[], Judged], images: int) -> list[Row]:
  return [measure.clean(get(), images)]


def _attack(
  get: Callable[[], Judged],
  config: ConfigDict,
  label: str,
  spec: Mapping[str, Any],
  folder: files.AnyPath | None,
) -> list[Row]:
  """Return the rows of an attack; draw what it found if there is a folder."""
  model = get()
  if not model.has(spec["holder"]):
    return [measure.nothing(model, label, spec)]
  images = spec["images"] or config.robustness.images
  batch = min(config.robustness.batch, images, len(model.test.label))
  found = list(measure.attempts(model, spec, images, batch, config.train.seed))
  if folder is not None:
    pictures.add(folder, label, spec, model, found[-1])
  return [measure.row(model, label, spec, f) for f in found]


def _largest_epsilon(config: ConfigDict) -> float:
  """Return the largest epsilon of a linf attack of the config."""
  found = [
    max(spec["epsilons"])
    for spec in config.robustness.attacks.values()
    if spec["norm"] == "linf"
  ]
  return max(found, default=0.1)


def _audit(
  get: Callable[[], Judged], config: ConfigDict, epsilon: float
) -> list[Row]:
  """Return the findings of the gradient-masking audit, one row each."""
  model = get()
  images = min(_AUDIT_IMAGES, config.robustness.images)
  adaptive = model.seen_by("right") if model.is_filtered else None
  found = defenses.audit.audit(
    model.served,
    jnp.asarray(model.test.image[:images]),
    jnp.asarray(model.test.label[:images]),
    epsilon=epsilon,
    bpda=adaptive,
    rng=measure.rng_of(config),
  )
  return [
    results.row(
      model.fields,
      title=model.title,
      model_name=model.name,
      metric=AUDIT,
      condition="right",
      value=float(x.suspicious),
      low=x.low,
      high=x.high,
      check=x.name,
      note=x.sentence,
      images=images,
      epsilon=epsilon,
    )
    for x in found.findings.values()
  ]


def _matrix(
  config: ConfigDict, models: Models, names: list[str], epsilon: float
) -> list[Row]:
  """Return the errors on inputs crafted on each model, one row a pair."""
  found = {name: models.get(name) for name in names}
  test = found[names[0]].test
  images = min(config.robustness.images, len(test.label))
  matrix = transfer_matrix.transfer_matrix(
    functools.partial(evasion.bim, steps=20),
    {name: model.served for name, model in found.items()},
    jnp.asarray(test.image[:images]),
    jnp.asarray(test.label[:images]),
    epsilon=epsilon,
    rng=measure.rng_of(config),
  )
  titles = {name: model.title for name, model in found.items()}
  return [
    results.row(
      found[target].fields,
      title=titles[target],
      model_name=target,
      source_name=source,
      source_title=titles.get(source, source),
      metric=TRANSFER,
      condition="right",
      epsilon=epsilon,
      images=images,
      value=share.error,
      low=share.low,
      high=share.high,
      interval="Clopper-Pearson over images",
    )
    for source, row in matrix.items()
    for target, share in row.items()
  ]


def summary(row: Row) -> str:
  """Return a row's figure in words."""
  if row["metric"] == AUDIT:
    return f"{row['check']}: {'MASKED' if row['value'] else 'no sign'}"
  if row["value"] is None:
    return str(row["note"])
  if row["metric"] == TRANSFER:
    return f"{row['source_name']} to {row['model_name']}: {row['value']:.3f}"
  if row["metric"] != measure.ACCURACY:
    return f"{row['title']}: {row['value']:.4g}"
  return (
    f"epsilon {row['epsilon']:g}: {100 * row['value']:.1f} % in "
    f"{row['cost']['seconds']:.1f} s"
  )
