"""Rows of a seed: gradients that are observed, models that go on learning."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

from ml_collections import ConfigDict

from experiments import data
from experiments.recordings import leaks, online, plan
from experiments.run import results

Row = dict[str, Any]


def tasks(
  config: ConfigDict, dataset: data.Dataset
) -> dict[str, Callable[[], list[Row]]]:
  """Return what there is to measure: functions that return rows, by name.

  Args:
    config: From `configs/recording.py`.
    dataset: Its images.

  Raises:
    ValueError: If a field is out of range; the message names it.
  """
  plan.check(config)
  found: dict[str, Callable[[], list[Row]]] = {}
  about = results.provenance() | {
    "config": config.name,
    "dataset": dataset.name,
    "classes": dataset.num_classes,
    "source": dataset.source,
    "judged_by": "accuracy",
  }
  measured = functools.partial(_made, about, config, dataset)
  seeds = range(config.seed, config.seed + config.seeds)
  # By scene, then by seed: a program is compiled once.
  if "online" in config.parts:
    for lock in ("", *config.online.locks):
      for seed in seeds:
        name = plan.name(config, "online", lock, seed)
        found[name] = functools.partial(measured, _online, lock, seed)
  if "gradients" in config.parts:
    for scene in plan.scenes(config.gradients):
      for seed in seeds:
        spec = config.gradients.models[scene.model]
        what = f"{scene} {spec.to_json(sort_keys=True)}"
        name = plan.name(config, "gradients", what, seed)
        found[name] = functools.partial(measured, _scene, scene, seed)
  return found


def _made(
  about: Row,
  config: ConfigDict,
  dataset: data.Dataset,
  measure: Callable[..., tuple[Row, Iterator[Row]]],
  what: Any,
  seed: int,
) -> list[Row]:
  fields, found = measure(config, dataset, what, seed)
  return [results.row(about, seed=seed, **fields | row) for row in found]


def _scene(
  config: ConfigDict, dataset: data.Dataset, scene: plan.Scene, seed: int
) -> tuple[Row, Iterator[Row]]:
  fields = _lock(scene.lock) | {
    "part": "gradients",
    "model": scene.model,
    "title": config.gradients.models[scene.model].title,
    "scene": scene.title(),
    "size": scene.size,
    "view": scene.view,
    "defense": scene.defense,
    "noise": scene.noise,
    "trained": scene.trained,
    "unrelated": config.gradients.unrelated,
    "knows": "the gradient, and the weights at which it was computed",
  }
  return fields, leaks.rows(config, dataset, scene, seed)


def _online(
  config: ConfigDict, dataset: data.Dataset, lock: str, seed: int
) -> tuple[Row, Iterator[Row]]:
  fields = _lock(lock)
  fields |= {
    "part": "online",
    "model": config.online.model,
    "title": fields["scheme_title"],
    "scene": "",
    "label_noise": config.online.noise,
  }
  return fields, online.rows(config, dataset, lock, seed)


def _lock(label: str) -> Row:
  """Return whose rows they are, as those of other commands say it."""
  return {
    "scheme": label,
    "scheme_title": label.upper() or "no lock",
    "mechanism": label or "identity",
    "options": {},
  }
