"""Shadow models side by side, against one after another."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from experiments import data, models
from experiments.benchmarks import timing
from experiments.run.config import base
from keyjax.attacks.fit import Recipe
from keyjax.attacks.game import Examples
from keyjax.attacks.privacy import shadows
from keyjax.scheme import PyTree

_POOL, _STEPS, _MODELS = 600, 60, 64
# Name -> model, its arguments, times the images are enlarged, and how many
# train side by side.
_NETWORKS = {
  "MLP 64-64-10": ("mlp", {"hidden": (64,)}, 1, (64,)),
  "MLP 64-256-10": ("mlp", {"hidden": (256,)}, 1, (64, 16)),
  "CNN, 8 x 8": ("cnn", {}, 1, (16,)),
  "CNN, 32 x 32": ("cnn", {}, 4, (16, 4)),
}


def rows(rounds: int) -> Iterator[dict[str, Any]]:
  """Yield how many times as fast models train side by side.

  Args:
    rounds: Rounds that are timed.
  """
  for name, (kind, args, scale, chunks) in _NETWORKS.items():
    models_of = 16 if kind == "cnn" else _MODELS
    run = _training(kind, args, scale, models_of)
    times = timing.interleaved(
      {str(c): functools.partial(run, c) for c in (1, *chunks)}, rounds
    )
    for chunk in chunks:
      yield timing.row(
        f"{name}: {models_of} shadow models, {chunk} side by side",
        timing.ratio(times[str(chunk)], times["1"]),
        "times as fast",
        target=">= 3" if name == "MLP 64-64-10" else "",
        note=f"{_STEPS} steps of batches of 64; against one after another",
      )


def _training(
  kind: str, args: dict[str, Any], scale: int, count: int
) -> Callable[[int], PyTree]:
  """Return a function that trains models, so many side by side."""
  config = base()
  dataset = data.from_config(config)
  config.model = kind
  config.model_args.update(args)
  model = models.from_config(config, dataset)
  images = dataset.train_images[:_POOL].astype(np.float32) / 255
  images = images.repeat(scale, 1).repeat(scale, 2)  # [n, h, w, c]
  pool = Examples(images, dataset.train_labels[:_POOL].astype(np.int32))
  members = shadows.split(count, _POOL)

  def init(rng: jax.Array) -> PyTree:
    return model.init(rng, pool.image[:1])

  def run(chunk: int) -> PyTree:
    recipe = Recipe(learning_rate=3e-3)
    return shadows.train(
      model.apply, init, pool, members, recipe, steps=_STEPS, chunk=chunk
    ).params

  return run
