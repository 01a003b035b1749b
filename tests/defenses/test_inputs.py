"""Noise, discrete inputs, similar queries, and what gets past each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax.defenses import discrete, similar_queries, with_noise

WEIGHTS = jnp.asarray([[1.0, -1.0], [0.5, -0.5], [-2.0, 2.0]])
X = jnp.asarray([[0.9, 0.8, 0.1]])


def linear(x: jax.Array) -> jax.Array:
  return x @ WEIGHTS


def test_noise_averages_predictions() -> None:
  noisy = with_noise(linear, sigma=0.3, draws=64, rng=jax.random.key(0))
  found = jax.nn.softmax(noisy(X))
  assert abs(float(found.sum()) - 1) < 1e-5
  assert not np.allclose(found, jax.nn.softmax(linear(X)), atol=1e-3)
  quiet = with_noise(linear, sigma=1e-6, rng=jax.random.key(0))
  np.testing.assert_allclose(
    jax.nn.softmax(quiet(X)), jax.nn.softmax(linear(X)), rtol=1e-4
  )
  np.testing.assert_array_equal(noisy(X), noisy(X))  # Until rng changes.
  with pytest.raises(ValueError, match="sigma=0"):
    with_noise(linear, sigma=0, rng=jax.random.key(0))


def test_the_gradient_of_the_average_attacks_noise() -> None:
  noisy = with_noise(linear, sigma=0.1, rng=jax.random.key(0))
  assert int(noisy(X).argmax()) == 0
  gradient = jax.grad(lambda x: noisy(x)[0, 1] - noisy(x)[0, 0])(X)
  moved = X + 0.6 * jnp.sign(gradient)
  assert int(noisy(moved).argmax()) == 1


def test_discrete_inputs_are_rounded_or_refused() -> None:
  seen = discrete(lambda x: x, levels=3)
  assert seen(X).tolist() == [[1.0, 1.0, 0.0]]
  strict = discrete(linear, round_others=False)
  valid = jnp.asarray([[1.0, 1.0, 0.0]])
  np.testing.assert_array_equal(strict(valid), linear(valid))
  with pytest.raises(ValueError, match="3 of 3 pixels have none of the 2"):
    strict(X)
  with pytest.raises(ValueError, match="under jit"):
    jax.jit(strict)(valid)
  with pytest.raises(ValueError, match="levels=1"):
    discrete(linear, levels=1)


def test_a_small_change_does_not_pass_rounding_and_a_flipped_bit_does() -> None:
  seen = discrete(linear)
  away = X + 0.25 * jnp.sign(WEIGHTS[None, :, 1])
  np.testing.assert_array_equal(seen(away), seen(X))
  flipped = jnp.asarray([[1.0, 1.0, 1.0]])
  assert int(seen(X).argmax()) == 0 and int(seen(flipped).argmax()) == 1


def test_a_search_is_flagged_and_ordinary_queries_are_not() -> None:
  rng = np.random.default_rng(0)
  ordinary = rng.uniform(size=(100, 2, 8)).astype(np.float32)
  limit = similar_queries.threshold(ordinary, 0.01)
  state = similar_queries.start(limit, (2, 8))
  state, flags = similar_queries.flag(state, jnp.asarray(ordinary[:50]))
  assert int(flags.sum()) <= 2
  search = ordinary[60] + 0.01 * rng.normal(size=(5, 2, 8)).astype(np.float32)
  state, flags = similar_queries.flag(state, jnp.asarray(search))
  assert flags.tolist() == [False, True, True, True, True]
  # One that steps around the threshold is not: the known break.
  wide = ordinary[70] + limit * 1.5 * np.arange(3)[:, None, None] / 4
  _, flags = similar_queries.flag(state, jnp.asarray(wide, jnp.float32))
  assert not flags.any()


def test_old_queries_are_forgotten_and_nan_is_flagged() -> None:
  state = similar_queries.start(0.5, (1,), capacity=2)
  queries = jnp.asarray([[0.0], [2.0], [jnp.nan], [4.0], [0.1]])
  state, flags = jax.jit(similar_queries.flag)(state, queries)
  assert flags.tolist() == [False, False, True, False, False]
  assert int(state.sent) == 4
  for wrong in ({"threshold": 0.0}, {"threshold": 1.0, "capacity": 0}):
    with pytest.raises(ValueError, match="above 0"):
      similar_queries.start(shape=(1,), **wrong)
  with pytest.raises(ValueError, match="1 inputs"):
    similar_queries.threshold(np.zeros((1, 2)))
