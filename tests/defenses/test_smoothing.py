"""Randomised smoothing: a linear model's radius is known exactly."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax.defenses import certify, predict
from keyjax.defenses.smoothing import ABSTAIN

WEIGHTS = jnp.asarray([3.0, 4.0])  # Of length 5.
X = jnp.asarray([[0.1, 0.05], [-0.2, 0.0], [0.0, 0.0]])
RNG = jax.random.key(0)


def linear(x: jax.Array) -> jax.Array:
  score = x @ WEIGHTS
  return jnp.stack([score, -score], -1)


def test_no_radius_is_larger_than_the_true_one() -> None:
  found = certify(linear, X, sigma=0.25, samples=4000, at_once=1000, rng=RNG)
  # For a linear model it is the distance to the plane (Cohen et al. 2019).
  true = np.abs(np.asarray(X @ WEIGHTS)) / 5
  assert found.label.tolist() == [0, 1, ABSTAIN]
  assert (found.radius <= true).all() and found.radius[2] == 0
  assert (found.radius[:2] > 0.7 * true[:2]).all()


def test_no_change_within_the_radius_moves_the_prediction() -> None:
  found = certify(linear, X[:2], sigma=0.25, samples=4000, rng=RNG)
  towards = (
    -np.sign(np.asarray(X[:2] @ WEIGHTS))[:, None]
    * np.asarray(WEIGHTS)[None]
    / 5
  )
  ask = functools.partial(predict, linear, sigma=0.25, samples=4000, rng=RNG)
  inside = ask(X[:2] + 0.9 * found.radius[:, None] * towards)
  assert inside.tolist() == found.label.tolist()
  outside = ask(X[:2] + 3 * found.radius[:, None] * towards)
  assert outside.tolist() == (1 - found.label).tolist()


def test_nothing_is_proved_of_nan() -> None:
  broken = lambda x: linear(x) + jnp.nan  # noqa: E731
  found = certify(broken, X, sigma=0.25, samples=100, rng=RNG)
  assert (found.label == ABSTAIN).all() and not found.radius.any()


@pytest.mark.parametrize(
  "given", [{"sigma": 0.0}, {"alpha": 1.0}, {"samples": 0}, {"at_once": 0}]
)
def test_arguments_out_of_range_are_refused(given: dict[str, float]) -> None:
  with pytest.raises(ValueError, match=next(iter(given))):
    certify(linear, X, **({"sigma": 0.1, "rng": RNG} | given))
