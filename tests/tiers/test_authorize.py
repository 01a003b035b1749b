"""A model is told which tiers opened, and has no weights of the others."""

import functools
from typing import Any

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from keyjax import tiers
from tests.tiers.conftest import BASE, EXPERT, Saved, tree

HALF = {"expert": False, "base": True}


class Model(nn.Module):
  """A layer, and an expert beside it."""

  @nn.compact
  def __call__(self, x: jax.Array, *, present: dict[str, bool]) -> jax.Array:
    y = nn.Dense(2, name="base")(x)
    if present["expert"]:
      y = y + nn.Dense(2, name="expert")(x)
    return y


class Deaf(nn.Module):
  """A model that needs all of its parameters."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    return nn.Dense(2, name="expert")(x)


def test_a_missing_expert_is_left_out(saved: Saved) -> None:
  model, x = Model(), jnp.ones((1, 3), jnp.float32)
  whole = model.init(jax.random.key(0), x, present={"expert": True})
  base = {"params": {"base": whole["params"]["base"]}}
  forward = jax.jit(tiers.authorize(HALF, model.apply))
  alone = model.apply(base, x, present={"expert": False})
  assert jnp.array_equal(forward(base, x), alone)
  # Also from params that still have it: nothing of it is used.
  assert jnp.array_equal(forward(whole, x), alone)
  full = tiers.authorize({"expert": True, "base": True}, model.apply)
  assert not jnp.array_equal(full(whole, x), alone)


def test_a_model_that_breaks_the_contract_fails(saved: Saved) -> None:
  def careless(params: Any, *, present: dict[str, bool]) -> jax.Array:
    return params["router"]["w"] * jnp.float32(2)

  for like in (None, tree()):
    unlocked = tiers.restore(saved.path, BASE, like)
    with pytest.raises((KeyError, TypeError)):
      tiers.authorize(unlocked.present, careless)(unlocked.params)
  unlocked = tiers.restore(saved.path, EXPERT)
  found = tiers.authorize(unlocked.present, careless)(unlocked.params)
  assert float(found) == 10
  x = jnp.ones((1, 3))
  lenient = lambda p, x, present: Deaf().apply(p, x)  # noqa: E731
  with pytest.raises(flax.errors.FlaxError):
    tiers.authorize(HALF, lenient)({"params": {}}, x)


def test_a_model_that_does_not_take_present_is_refused() -> None:
  for deaf in (
    Deaf().apply,
    lambda params, x: x,
    lambda params, present, /: params,
  ):
    with pytest.raises(TypeError, match="which does not take `present`"):
      tiers.authorize(HALF, deaf)
  for fine in (
    Model().apply,
    lambda params, x, present: x,
    lambda params, **kwargs: params,
    functools.partial(Model().apply, mutable=False),
    jax.jit(lambda params, present: params),
  ):
    tiers.authorize(HALF, fine)


@pytest.mark.parametrize("present", [None, ["base"], {"base": 1}])
def test_present_is_a_dict_of_bools(present: Any) -> None:
  with pytest.raises(TypeError, match="takes present first, a dict of a bool"):
    tiers.authorize(present, Model().apply)


def test_a_model_is_no_function() -> None:
  with pytest.raises(TypeError, match="pass its `apply`"):
    tiers.authorize(HALF, Model())


def test_a_model_cannot_change_what_it_is_told() -> None:
  def greedy(params: Any, *, present: dict[str, bool]) -> bool:
    before = present["expert"]
    present["expert"] = True
    return before

  forward = tiers.authorize(HALF, greedy)
  assert [forward(None), forward(None)] == [False, False]
