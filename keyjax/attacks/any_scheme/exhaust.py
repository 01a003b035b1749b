"""Exhaustive search: try every key, where there are few.

Needs: the file, the scheme, and a few labelled images. HPNN's unknowns are key
bits where the schedule is known, and one sign for each neuron otherwise. Cost:
a forward pass over at most 16 images for each key, 64 keys in one call. FFX is
left out: its table is drawn from 256 bits.

What a space costs that is too large is `key_space.log10_years`.
"""

import functools
import itertools
import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

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
from keyjax.attacks.hpnn import score as hpnn_score
from keyjax.attacks.hpnn import signs as hpnn_signs
from keyjax.attacks.pixel_shuffle import keys as pixel_keys
from keyjax.attacks.views import View
from keyjax.scheme import ApplyFn, Key, Scheme
from keyjax.schemes import pixel_shuffle
from keyjax.schemes.hpnn import HpnnKey
from keyjax.schemes.pixel_shuffle import NpKey, ShfKey

_IMAGES = 16
_AT_ONCE = 64


class Space(NamedTuple):
  """All keys of a view's scheme, and how many there are."""

  size: int
  keys: Iterator[Key]


def _referee(claimed: Key, target: Target) -> Score:
  if isinstance(claimed, HpnnKey):
    return hpnn_score.key_referee(claimed, target)
  return pixel_keys.key_referee(claimed, target)


@registry.register(
  "exhaust",
  Goal.KEY,
  ("shf", "np", "hpnn"),
  Attacker(images=1),
  referee=_referee,
)
def exhaust(view: View, budget: Budget) -> Iterator[Claim]:
  """Tries every key and claims the one of the least loss.

  Args:
    view: the file, the scheme and images.
    budget: `steps` keys are tried; where there are more, nothing is claimed.
  """
  assert view.scheme is not None
  found = space(view)
  if found.size > budget.steps:
    note = f"2^{math.log2(found.size):.1f} keys, and {budget.steps:,} tries"
    yield Claim(None, Cost(), {"note": note})
    return
  measure = _losses(view.scheme, view.apply_fn)
  params, data = view.stolen(), [jnp.asarray(x[:_IMAGES]) for x in view.data]
  best, least, tried, start = None, np.inf, 0, time.perf_counter()
  while keys := list(itertools.islice(found.keys, _AT_ONCE)):
    padded = keys + keys[:1] * (_AT_ONCE - len(keys))
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *padded)
    losses = np.asarray(measure(stacked, params, *data))[: len(keys)]
    losses = np.where(np.isnan(losses), np.inf, losses)
    if losses.min() < least:
      best, least = keys[int(losses.argmin())], float(losses.min())
    tried += len(keys)
  rate = tried / (time.perf_counter() - start)
  yield Claim(best, Cost(steps=tried), {"keys_a_second": rate})


def space(view: View) -> Space:
  """Returns every key that the scheme of a view can have.

  Example:
    >>> import types
    >>> image = np.zeros((1, 4, 4, 1))
    >>> data = types.SimpleNamespace(image=image)
    >>> view = types.SimpleNamespace(
    ...   name="shf", options={"block_size": 2}, data=data)
    >>> space(view).size
    24
  """
  if view.name == "hpnn":
    this = hpnn_signs.problem(view)
    signs = itertools.product((1, -1), repeat=len(this.free))
    return Space(
      2 ** len(this.free),
      (hpnn_signs.key_of(this, _placed(this, s)) for s in signs),
    )
  m = pixel_keys.block_size(view)
  size = m * m * view.data.image.shape[-1]
  if view.name == "shf":
    orders = itertools.permutations(range(size))
    return Space(
      math.factorial(size),
      (ShfKey(order=jnp.asarray(o), block_size=m) for o in orders),
    )
  ones = int(pixel_shuffle.balanced_mask(np.arange(size)).sum())
  chosen = itertools.combinations(range(size), ones)
  return Space(
    math.comb(size, ones),
    (NpKey(mask=_mask(size, c), block_size=m) for c in chosen),
  )


def _placed(this: hpnn_signs.Problem, signs: tuple[int, ...]) -> np.ndarray:
  values = np.ones(this.size, np.float32)
  values[this.free] = signs
  return values


def _mask(size: int, ones: tuple[int, ...]) -> jax.Array:
  return jnp.zeros(size, bool).at[jnp.array(ones, int)].set(True)


@functools.lru_cache(maxsize=16)
def _losses(scheme: Scheme, apply_fn: ApplyFn) -> Any:
  """Returns a compiled `(keys, params, images, labels) -> losses`."""

  def one(key: Key, params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    logits = scheme.bind(key, apply_fn)(params, x)
    return hpnn_signs.loss("ce", logits, y)

  return jax.jit(jax.vmap(one, (0, None, None, None)))
