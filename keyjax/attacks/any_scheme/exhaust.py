"""Exhaustive search: try every key, where there are few.

Needs: the file, the scheme, and a few labelled images. Cost: a forward pass
over at most 16 images for each key, 64 keys in one call. FFX is left out: its
table is drawn from 256 bits. `key_space.log10_years` prices the search of a
space that is too large.
"""

import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import tasks
from keyjax.attacks import registry
from keyjax.attacks.game import (
  Attacker,
  Budget,
  Claim,
  Cost,
  Goal,
  Score,
  Target,
)
from keyjax.attacks.hpnn import sign_referees
from keyjax.attacks.hpnn.enumeration import all_signs
from keyjax.attacks.pixel_shuffle import block_referees
from keyjax.attacks.pixel_shuffle.enumeration import all_masks, all_orders
from keyjax.attacks.views import View
from keyjax.scheme import ApplyFn, Key, Scheme
from keyjax.schemes.hpnn import HpnnKey
from keyjax.tasks.task import Loss

_IMAGES = 16
_AT_ONCE = 64
# Scheme -> function that returns the number of its keys, and the keys.
_ENUMERATIONS: dict[str, Callable[[View], tuple[int, Iterator[Key]]]] = {
  "shf": all_orders,
  "np": all_masks,
  "hpnn": all_signs,
}


def _referee(claimed: Key, target: Target) -> Score:
  if isinstance(claimed, HpnnKey):
    return sign_referees.key_referee(claimed, target)
  return block_referees.key_referee(claimed, target)


@registry.register(
  "exhaust",
  Goal.KEY,
  tuple(_ENUMERATIONS),
  Attacker(images=1),
  referee=_referee,
)
def exhaust(view: View, budget: Budget) -> Iterator[Claim]:
  """Try every key and claim the one with the lowest loss.

  Args:
    view: The file, the scheme and labelled images.
    budget: Its `steps` are the number of keys to try; where there are more,
      nothing is claimed.
  """
  assert view.scheme is not None
  size, keys = _ENUMERATIONS[view.name](view)
  if size > budget.steps:
    note = f"2^{math.log2(size):.1f} keys, and {budget.steps:,} tries"
    yield Claim(None, Cost(), {"note": note})
    return
  measure = _losses(view.scheme, view.apply_fn, view.task.loss)
  params = view.stolen()
  few = tasks.take(view.data, slice(_IMAGES))
  data = jax.tree.map(jnp.asarray, tuple(few))
  best = None
  least = np.inf
  tried = 0
  start = time.perf_counter()
  while batch := list(itertools.islice(keys, _AT_ONCE)):
    # The last batch is padded to the compiled size.
    padded = batch + batch[:1] * (_AT_ONCE - len(batch))
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *padded)
    losses = np.asarray(measure(stacked, params, *data))[: len(batch)]
    losses = np.where(np.isnan(losses), np.inf, losses)
    if losses.min() < least:
      best = batch[int(np.argmin(losses))]
      least = float(losses.min())
    tried += len(batch)
  rate = tried / (time.perf_counter() - start)
  yield Claim(best, Cost(steps=tried), {"keys_a_second": rate})


@functools.lru_cache(maxsize=16)
def _losses(scheme: Scheme, apply_fn: ApplyFn, loss: Loss) -> Any:
  """Return a compiled `(keys, params, images, labels) -> losses`."""

  def one(key: Key, params: Any, x: Any, y: Any) -> jax.Array:
    return loss(scheme.bind(key, apply_fn)(params, x), y).mean()

  return jax.jit(jax.vmap(one, (0, None, None, None)))
