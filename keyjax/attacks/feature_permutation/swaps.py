"""Feature permutation: hill climbing by swaps of two channels.

Two channels that are swapped change little, so a key that is nearly right is a
model that is nearly right, and the loss on a few labelled images leads to a key
that works. The search starts from the orders that statistics give
(`feature_statistics`), unless `informed` is off, and goes through the layers
that they do not give first.

Needs: the file, the scheme and labelled images. Cost: a forward pass over at
most 64 images for each swap.

Source: ours, after the hill climbing of MaungMaung and Kiya's evaluation code
(arXiv 2010.00801).
"""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import tasks
from keyjax.attacks import registry
from keyjax.attacks.feature_permutation import order_model, statistics
from keyjax.attacks.game import Attacker, Budget, Claim, Cost, Goal
from keyjax.attacks.views import View
from keyjax.scheme import ApplyFn
from keyjax.schemes.feature_permutation import FeatureKey
from keyjax.tasks.task import Loss

_IMAGES = 64


@registry.register(
  "feature_swaps",
  Goal.FUNCTION,
  order_model.SCHEMES,
  Attacker(images=1),
  referee=order_model.function_referee,
)
def feature_swaps(
  view: View, budget: Budget, informed: bool = True
) -> Iterator[Claim]:
  """Swap channels while the loss falls.

  Args:
    view: The file, the scheme and labelled images.
    budget: Its `steps` are the number of swaps to try.
    informed: Whether to start from the statistics.
  """
  key, given = order_model.no_key(view), list[str]()
  if informed:
    key, given = statistics.match(view)
  params = view.stolen()
  few = tasks.take(view.data, slice(_IMAGES))
  x, y = jax.tree.map(jnp.asarray, tuple(few))
  compiled = _loss(view.apply_fn, view.task.loss)
  best = float(compiled(params, key, x, y))
  marks = set(budget.marks())
  rng = np.random.default_rng(budget.seed)
  step = since = 0
  while step < budget.steps:
    swaps = _swaps(key, given, rng)
    for path, i, j in swaps:
      trial = _swapped(key, path, i, j)
      found = float(compiled(params, trial, x, y))
      step += 1
      since += 1
      if found < best or not np.isfinite(best):
        key, best, since = trial, found, 0
      if step in marks:
        yield Claim(key, Cost(steps=step), {"loss": best})
      if step == budget.steps:
        return
    if since >= len(swaps):  # A whole sweep improved nothing.
      break
  yield Claim(key, Cost(steps=step), {"loss": best})


@functools.lru_cache(maxsize=16)
def _loss(apply_fn: ApplyFn, loss: Loss) -> Any:
  """Return a compiled `(params, key, images, labels) -> loss`."""
  run = order_model.under_key(apply_fn)
  return jax.jit(
    lambda params, key, x, y: loss(run((params, key), x), y).mean()
  )


def _swaps(
  key: FeatureKey, given: list[str], rng: np.random.Generator
) -> list[tuple[str, int, int]]:
  """Return all pairs of channels, of layers that are not given first."""
  paths = sorted(key.orders, key=given.__contains__)
  return [
    (path, int(i), int(j))
    for path in paths
    for i, j in rng.permutation(_pairs(key.orders[path].size))
  ]


def _pairs(size: int) -> np.ndarray:
  """Return int[size * (size - 1) / 2, 2]."""
  return np.stack(np.triu_indices(size, 1), -1)


def _swapped(key: FeatureKey, path: str, i: int, j: int) -> FeatureKey:
  order = np.array(key.orders[path])
  order[[i, j]] = order[[j, i]]
  return key.replace(orders=key.orders | {path: jnp.asarray(order)})
