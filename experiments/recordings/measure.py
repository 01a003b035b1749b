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
  seeds = range(config.seed, config.seed + config.seeds)
  # By scene, then by seed: a program is compiled once.
  if "online" in config.parts:
    for lock in ("", *config.online.locks):
      for seed in seeds:
        name = plan.name(config, "online", lock, seed)
        found[name] = functools.partial(_online, config, dataset, lock, seed)
  if "gradients" in config.parts:
    for scene in plan.scenes(config.gradients):
      for seed in seeds:
        spec = config.gradients.models[scene.model]
        what = f"{scene} {spec.to_json(sort_keys=True)}"
        name = plan.name(config, "gradients", what, seed)
        found[name] = functools.partial(_scene, config, dataset, scene, seed)
  return found


def _scene(
  config: ConfigDict, dataset: data.Dataset, scene: plan.Scene, seed: int
) -> list[Row]:
  spec = config.gradients.models[scene.model]
  fields = _base(config, dataset, seed) | {
    "part": "gradients",
    "model": scene.model,
    "title": spec.title,
    "scheme": scene.lock,
    "scene": scene.title(),
    "size": scene.size,
    "view": scene.view,
    "defense": scene.defense,
    "noise": scene.noise,
    "trained": scene.trained,
  }
  return _made(fields, leaks.rows(config, dataset, scene, seed))


def _online(
  config: ConfigDict, dataset: data.Dataset, lock: str, seed: int
) -> list[Row]:
  fields = _base(config, dataset, seed) | {
    "part": "online",
    "model": config.online.model,
    "title": lock.upper() or "no lock",
    "scheme": lock,
    "scene": "",
  }
  return _made(fields, online.rows(config, dataset, lock, seed))


def _base(config: ConfigDict, dataset: data.Dataset, seed: int) -> Row:
  about = {"config": config.name, "dataset": dataset.name, "seed": seed}
  return results.provenance() | about


def _made(fields: Row, found: Iterator[Row]) -> list[Row]:
  return [results.row(fields, **row) for row in found]
