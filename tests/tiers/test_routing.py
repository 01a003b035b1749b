"""Routed training: a step updates the leaves of one tier, to the bit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from keyjax import tiers, tree
from keyjax.errors import ArgumentError
from tests import trees

PARTS = {"expert": ".*expert.*", "base": ".*"}


def params() -> dict[str, Any]:
  rng = np.random.default_rng(0)
  names = ("stem", "expert", "head")
  return {x: jnp.asarray(rng.normal(size=3), jnp.float32) for x in names}


def gradients(number: int) -> dict[str, Any]:
  rng = np.random.default_rng(number)
  return jax.tree.map(
    lambda x: jnp.asarray(rng.normal(size=3), x.dtype), params()
  )


def run(optimizer: Any, order: list[str]) -> Any:
  """Return the params after steps; each tier has gradients of its own."""
  update = jax.jit(optimizer.update, static_argnames="tier")
  found, state = params(), optimizer.init(params())
  seen = dict.fromkeys(PARTS, 0)
  for tier in order:
    seen[tier] += 1
    grads = gradients(seen[tier])
    with jax.numpy_dtype_promotion("standard"):  # Optax counts in int32.
      updates, state = update(grads, state, found, tier=tier)
    found = optax.apply_updates(found, updates)
  return found


OPTIMIZERS = {
  "momentum": optax.sgd(0.1, momentum=0.9),
  "adamw": optax.adamw(optax.linear_schedule(0.1, 0.01, 9), weight_decay=0.1),
  "clipped": optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.1)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_tier_is_what_its_own_steps_alone_make_it(name: str) -> None:
  """Neither momentum, decay, schedule nor norm leaks from one to another."""
  optimizer = tiers.routed(OPTIMIZERS[name], PARTS)
  mixed = run(optimizer, ["expert", "base", "base", "expert", "base"])
  base = run(optimizer, ["base"] * 3)
  expert = run(optimizer, ["expert"] * 2)
  trees.assert_same_bits(mixed, base | {"expert": expert["expert"]})
  start = params()
  assert tree.same_bits(base["expert"], start["expert"])
  assert tree.same_bits(expert["stem"], start["stem"])
  for leaf in start:
    assert not tree.same_bits(mixed[leaf], start[leaf])


def test_eager_is_jit() -> None:
  optimizer = tiers.routed(OPTIMIZERS["momentum"], PARTS)
  state = optimizer.init(params())
  eager, _ = optimizer.update(gradients(1), state, params(), tier="base")
  jitted, _ = jax.jit(lambda *x: optimizer.update(*x, tier="base"))(
    gradients(1), state, params()
  )
  trees.assert_same_bits(eager, jitted)


def test_a_wrong_tier_is_refused() -> None:
  optimizer = tiers.routed(optax.sgd(0.1), PARTS)
  state = optimizer.init(params())
  with pytest.raises(ArgumentError, match="no tier 'low'; there are expert, b"):
    optimizer.update(gradients(1), state, params(), tier="low")
  with pytest.raises(TypeError, match="tier"):
    optimizer.update(gradients(1), state, params())
  for parts, message in (
    ({"expert": "expert"}, "leaf head is in no tier"),
    ({"x": "experts", "base": ".*"}, "tier x has no leaf: no leaf matches"),
  ):
    with pytest.raises(ArgumentError, match=message):
      tiers.routed(optax.sgd(0.1), parts).init(params())
