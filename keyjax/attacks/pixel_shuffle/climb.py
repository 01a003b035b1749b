"""Pixel shuffle: hill climbing to the key.

As in the authors' own code, the attack starts from a random key, goes through
all pairs of positions, swaps them, and keeps a swap that does not lower the
accuracy on a batch. By the loss instead, it climbs where the accuracy is flat.
NP swaps a position that is inverted with one that is not. A nearly right table
of FFX is no better than a wrong one, so there is nothing to climb.

Needs: the file, the scheme and labelled images. Cost: a forward pass over at
most 256 images for each swap.

Source: MaungMaung and Kiya, evaluation code of arXiv 2010.00801: 10 sweeps of
swaps, batches of 128. Their random keys are `random_keys`.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import tasks
from keyjax.attacks import registry
from keyjax.attacks.game import Attacker, Budget, Claim, Cost, Goal
from keyjax.attacks.pixel_shuffle import block_keys, block_referees
from keyjax.attacks.views import View
from keyjax.schemes.pixel_shuffle import NpKey, PixelKey, ShfKey

_IMAGES = 256


@registry.register(
  "pixel_climb",
  Goal.FUNCTION,
  ("shf", "np"),
  Attacker(images=1),
  ({"by": "accuracy"}, {"by": "loss"}),
  referee=block_referees.function_referee,
)
def climb(view: View, budget: Budget, by: str = "loss") -> Iterator[Claim]:
  """Swap positions while it helps.

  Args:
    view: The file, the scheme and labelled images.
    budget: Its `steps` are the number of swaps to try.
    by: `accuracy`, the task's metric, where a swap is kept if it does no harm,
      as published; or `loss`, where it must help.
  """
  rng = np.random.default_rng(budget.seed)
  score = _Scorer(view, by)
  marks = set(budget.marks())
  key = block_keys.guess(view, rng)
  high = score(key)
  step = 0
  since = 0
  while step < budget.steps:
    swaps = list(_swaps(key))
    for i, j in swaps:
      trial = _swapped(key, i, j)
      if trial is None:
        continue
      step += 1
      since += 1
      found = score(trial)
      if found > high or (found == high and by == "accuracy"):
        since = 0 if found > high else since
        key, high = trial, found
      if step in marks:
        yield Claim(key, Cost(steps=step))
      if step == budget.steps:
        return
    if since >= len(swaps):  # A whole sweep improved nothing.
      yield Claim(key, Cost(steps=step))
      return


class _Scorer:
  """Scores keys on the attacker's images; higher is better."""

  def __init__(self, view: View, by: str):
    self._by = by
    self._params = view.stolen()
    self._task = view.task
    self._run = block_keys.measure(view.apply_fn, view.task)
    few = tasks.take(view.data, slice(_IMAGES))
    self._data = jax.tree.map(jnp.asarray, tuple(few))

  def __call__(self, key: PixelKey) -> float:
    loss, statistics = self._run(self._params, key, *self._data)
    if self._by == "loss":
      return -float(loss)
    return self._task.value(jax.device_get(statistics))


def _swaps(key: PixelKey) -> Iterator[tuple[int, int]]:
  size = key.positions().size
  for i in range(size):
    for j in range(i + 1, size):
      yield i, j


def _swapped(key: ShfKey | NpKey, i: int, j: int) -> ShfKey | NpKey | None:
  """Return the key with two positions swapped; None if that is the same."""
  m = key.block_size
  if isinstance(key, ShfKey):
    order = np.array(key.order)
    order[[i, j]] = order[[j, i]]
    return ShfKey(order=jnp.asarray(order), block_size=m)
  mask = np.array(key.mask)
  if mask[i] == mask[j]:
    return None
  mask[[i, j]] = mask[[j, i]]
  return NpKey(mask=jnp.asarray(mask), block_size=m)
