"""Adversarial images from the mean gradient over random input keys."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.attacks import registry
from keyjax.attacks.any_scheme.ascent import Ball, ascend, cross_entropies
from keyjax.attacks.any_scheme.transfer import GRID
from keyjax.attacks.game import Attacker, Budget, Claim, Goal
from keyjax.attacks.pixel_shuffle import block_keys
from keyjax.attacks.views import View
from keyjax.scheme import ApplyFn, PyTree
from keyjax.secrets import Secret

_POOL = 64  # Random keys that an expectation draws from.


@registry.register(
  "transfer_keys",
  Goal.TRANSFER,
  block_keys.SCHEMES,
  Attacker(victims=1),
  GRID,
)
def transfer_keys(
  view: View, budget: Budget, keys: int = 4, **ball: Any
) -> Iterator[Claim]:
  """Climb the mean over random keys on the stolen network.

  Args:
    view: The file, the scheme and the victims.
    budget: Its `steps` are steps of ascent.
    keys: Number of keys of a pool that a step averages over.
    **ball: Fields of `ascent.Ball`.

  Raises:
    ValueError: If there are no keys, or more than the pool has.
  """
  assert view.scheme is not None and view.victims is not None
  if not 0 < keys <= _POOL:
    raise ValueError(f"keys={keys}: must be from 1 to {_POOL}")
  batch = {"image": view.victims.image[:1]}
  drawn = [
    view.scheme.keygen(Secret.generate(), view.like, batch)
    for _ in range(_POOL)
  ]
  pool = jax.tree.map(lambda *x: jnp.stack(x), *drawn)
  rng = np.random.default_rng([budget.seed, 4])
  stolen = view.stolen()

  def params(_: int) -> PyTree:
    picked = rng.choice(_POOL, keys, replace=False)
    return stolen, jax.tree.map(lambda x: x[picked], pool)

  yield from ascend(
    _mean_over_keys(view.apply_fn),
    params,
    view.victims,
    budget,
    Ball(**ball),
    details={"keys": keys},
  )


@functools.lru_cache(maxsize=16)
def _mean_over_keys(apply_fn: ApplyFn) -> Any:
  """Return `((params, keys), images, labels) -> float32[n]`."""
  loss = cross_entropies(block_keys.under_key(apply_fn))

  def losses(pair: Any, x: jax.Array, labels: jax.Array) -> jax.Array:
    params, keys = pair
    # [keys, n] -> [n]
    return jax.vmap(lambda key: loss((params, key), x, labels))(keys).mean(0)

  return losses
