"""What studies of poisoned data share: networks, trained side by side."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from experiments import models
from experiments.studies.base import (
  Figure,
  Lab,
  difference,
  number,
  sample,
  share,
)
from keyjax.attacks import fit
from keyjax.attacks.game import Examples
from keyjax.attacks.privacy import shadows, stacked
from keyjax.scheme import PyTree

__all__ = [
  "Figure",
  "Lab",
  "Networks",
  "difference",
  "network",
  "number",
  "sample",
  "share",
]

RECIPE = fit.Recipe("adam", 2e-3, batch_size=64)


class Networks(NamedTuple):
  """Networks of one shape, each trained on data of its own.

  Attributes:
    model: Linen module.
    variables: Their variables, with a first axis over networks.
  """

  model: nn.Module
  variables: PyTree

  def logits(self, images: Any) -> np.ndarray:
    """Return the logits of images, float32[networks, n, classes]."""
    return stacked.answers(self.model.apply, self.variables, images, chunk=32)

  def labels(self, images: Any) -> np.ndarray:
    """Return the predicted classes, int[networks, n]."""
    return self.logits(images).argmax(-1)


def network(
  lab: Lab, *, normalise: bool = True, hidden: Sequence[int] = ()
) -> nn.Module:
  """Return the untrained MLP of most studies.

  One hidden layer: of 64 units for the digits, of 128 for other images.

  Args:
    lab: Data.
    normalise: Whether it scales pixels to mean 0 and deviation 1.
    hidden: Units of other hidden layers.
  """
  d = lab.dataset
  units = tuple(hidden) or ((64,) if d.name == "digits" else (128,))
  scale = d.mean, d.std
  if not normalise:
    scale = (0.0,) * len(d.mean), (1.0,) * len(d.std)
  return models.create("mlp", d.num_classes, *scale, hidden=units)


def train(
  lab: Lab,
  sets: Sequence[Examples],
  *,
  steps: int = 800,
  recipe: fit.Recipe = RECIPE,
  model: nn.Module | None = None,
) -> Networks:
  """Train a network on each of several sets of examples, all side by side.

  Args:
    lab: Data and seed.
    sets: Training data of each.
    steps: Steps of training.
    recipe: Settings of training.
    model: Another model than `network(lab)`.
  """
  made = model or network(lab)
  sizes = [len(x.label) for x in sets]
  owner = np.repeat(np.arange(len(sets)), sizes)
  whole = Examples(
    np.concatenate([x.image for x in sets]),
    np.concatenate([x.label for x in sets]).astype(np.int32),
  )
  like = jnp.zeros((1, *whole.image.shape[1:]))
  found = shadows.train(
    made.apply,
    lambda rng: made.init(rng, like),
    whole,
    owner[None] == np.arange(len(sets))[:, None],
    recipe,
    lab.seed,
    steps=steps,
    each=0,
    chunk=32,
  )
  return Networks(made, found.params)
