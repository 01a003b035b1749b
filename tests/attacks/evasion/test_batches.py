"""Batches: one program, whatever the key and the number of inputs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from keyjax import tree
from keyjax.attacks import evasion
from tests.attacks.evasion import models

RNG = jax.random.key(0)
PGD = functools.partial(evasion.pgd, steps=3)


def scaled(w: jax.Array) -> Partial:
  """Return a linear model whose key is its weights."""
  return Partial(lambda w, x: models.linear(x, w), w)


def examples(n: int) -> tuple[jax.Array, jax.Array]:
  x = jnp.concatenate([models.inputs()] * 2)[:n]
  return x, models.linear(x).argmax(-1).astype(jnp.int32)


def test_a_batch_is_a_part_of_the_whole() -> None:
  x, y = examples(13)
  whole = jax.jit(PGD)(Partial(models.linear), x, y, epsilon=0.02, rng=RNG)
  assert whole.success.any() and not whole.success.all()
  for size in (5, 16):  # 13 = 5 + 5 + 3, and less than 16.
    found = evasion.in_batches(PGD, size)(
      models.linear, x, y, epsilon=0.02, rng=RNG
    )
    np.testing.assert_allclose(found.inputs, whole.inputs, atol=1e-6)
    for a, b in zip(found[1:], whole[1:], strict=True):
      assert a.shape == (13,) and a.dtype == b.dtype
      np.testing.assert_allclose(a, b, atol=1e-6)


def test_one_program_serves_all_keys_rngs_balls_and_numbers() -> None:
  traces = []

  def counted(w: jax.Array, x: jax.Array) -> jax.Array:
    if len(x) == 4:  # Not the check of all inputs.
      traces.append(None)
    return models.linear(x, w)

  attack = evasion.in_batches(PGD, 4)
  x, y = examples(7)
  w = jnp.asarray(models.weights())
  first = attack(Partial(counted, w), x, y, epsilon=0.02, rng=RNG)
  seen = len(traces)
  other = jax.random.key(1)
  for key, n, epsilon, rng in ((-w, 7, 0.03, RNG), (w, 5, 0.02, other)):
    found = attack(
      Partial(counted, key), x[:n], y[:n], epsilon=epsilon, rng=rng
    )
    assert len(found.success) == n
    assert not tree.same_bits(found.inputs, first.inputs[:n])
  assert len(traces) == seen > 0


def test_targets_belong_to_their_inputs() -> None:
  x, y = examples(6)
  targets = (y + jnp.arange(1, 7)) % 10
  attack = evasion.in_batches(functools.partial(evasion.bim, steps=5), 4)
  found = attack(models.linear, x, y, targets=targets, epsilon=0.5)
  assert found.success.all()
  np.testing.assert_array_equal(models.linear(found.inputs).argmax(-1), targets)


@pytest.mark.parametrize("name", ["pgd", "square"])
def test_devices_share_a_batch(name: str) -> None:
  attack = {
    "pgd": PGD,
    "square": functools.partial(evasion.square, n_queries=10),
  }[name]
  x, y = examples(11)
  args = (scaled(jnp.asarray(models.weights())), x, y)
  one = evasion.in_batches(attack, 8)(*args, epsilon=0.05, rng=RNG)
  many = evasion.in_batches(attack, 8, devices=jax.devices())(
    *args, epsilon=0.05, rng=RNG
  )
  np.testing.assert_array_equal(one.success, many.success)
  np.testing.assert_array_equal(one.queries, many.queries)
  np.testing.assert_allclose(one.inputs, many.inputs, atol=1e-6)


def test_wrong_arguments_are_refused() -> None:
  x, y = examples(3)
  with pytest.raises(ValueError, match="size is 0"):
    evasion.in_batches(PGD, 0)
  with pytest.raises(ValueError, match="size is 12: pass a multiple of 8"):
    evasion.in_batches(PGD, 12, devices=jax.devices())
  attack = functools.partial(evasion.in_batches(PGD, 2), models.linear)
  with pytest.raises(ValueError, match="epsilon is -1"):
    attack(x, y, epsilon=-1, rng=RNG)
  with pytest.raises(ValueError, match="outside the bounds"):
    attack(x * 255, y, epsilon=0.1, rng=RNG)
  with pytest.raises(ValueError, match="labels range"):
    attack(x, y + 10, epsilon=0.1, rng=RNG)
  with pytest.raises(ValueError, match="targets range"):
    attack(x, y, targets=y + 10, epsilon=0.1, rng=RNG)
