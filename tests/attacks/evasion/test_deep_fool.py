"""DeepFool reaches the boundary of a linear model in one step."""

import jax.numpy as jnp
import numpy as np
import pytest

from keyjax.attacks.evasion.deep_fool import deepfool

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(64, 10)).astype(np.float32)
IMAGES = RNG.uniform(size=(8, 8, 8, 1)).astype(np.float32)
WIDE = (-50.0, 50.0)


def linear(x):
  return x.reshape(len(x), -1) @ WEIGHTS


LABELS = np.asarray(linear(IMAGES).argmax(-1))


@pytest.mark.parametrize(("norm", "dual"), [("l2", 2), ("linf", 1)])
def test_distance_of_a_linear_model(norm: str, dual: int) -> None:
  """It is the least |f| / |w| of the other classes, and the overshoot."""
  found = deepfool(
    linear, IMAGES, LABELS, norm=norm, candidates=None, bounds=WIDE
  )
  logits = np.asarray(linear(IMAGES))
  slopes = WEIGHTS.T[None] - WEIGHTS.T[LABELS][:, None]  # [n, classes, 64]
  gaps = logits.max(-1, keepdims=True) - logits
  lengths = np.linalg.norm(slopes, dual, axis=-1)
  exact = np.where(gaps > 0, gaps / np.maximum(lengths, 1e-9), np.inf).min(-1)
  assert found.success.all()
  np.testing.assert_allclose(found.distance, 1.02 * (exact + 1e-4), rtol=1e-4)
  # The unchanged input, one Jacobian of 9 rows, and 9 more to see the success.
  np.testing.assert_array_equal(found.queries, 1 + 9 + 9)


def test_candidates_limit_the_classes() -> None:
  """With 2 candidates every example goes to its runner-up."""
  found = deepfool(linear, IMAGES, LABELS, candidates=2, bounds=WIDE)
  second = np.argsort(-np.asarray(linear(IMAGES)), -1)[:, 1]
  changed = linear(found.inputs)
  rows = np.arange(len(IMAGES))
  margin = changed[rows, second] - changed[rows, LABELS]
  assert found.success.all() and (np.asarray(margin) > 0).all()
  np.testing.assert_array_equal(found.queries, 3)


def test_box_makes_steps_repeat() -> None:
  found = deepfool(linear, IMAGES, LABELS)
  assert found.success.all() and (found.queries > 19).any()
  assert (found.inputs >= 0).all() and (found.inputs <= 1).all()


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"norm": "l1"}, "norm is 'l1'"),
    ({"steps": 0}, "steps 0, overshoot"),
    ({"overshoot": -1}, "overshoot -1"),
    ({"candidates": 1}, "candidates is 1"),
  ],
)
def test_refuses(options: dict, message: str) -> None:
  with pytest.raises(ValueError, match=message):
    deepfool(linear, jnp.asarray(IMAGES), LABELS, **options)
