"""The test of the key by confidences."""

import jax
import numpy as np
import pytest

from keyjax import fallback


@jax.jit
@jax.vmap
def run(confidence, reference, rng):
  return fallback.wrong_key(confidence, reference, draws=99, rng=rng)


@pytest.fixture(scope="module")
def many():
  """P-values of samples from the reference, and of less sure ones."""
  draw = np.random.default_rng(0)
  right = draw.beta(20, 1, size=(120, 40 + 20)).astype(np.float32)
  wrong = draw.beta(3, 1, size=(30, 20)).astype(np.float32)
  sure = np.concatenate([right[:, :20], wrong])
  reference = np.concatenate([right[:, 20:], right[:30, 20:]])
  rngs = jax.random.split(jax.random.key(0), 150)
  found = np.asarray(run(sure, reference, rngs))
  return found[:120], found[120:]


def test_false_alarms_are_as_rare_as_the_level(many):
  """P-values are uniform where nothing is wrong."""
  right, _ = many
  for level in (0.05, 0.2, 0.5):
    error = 3 * np.sqrt(level * (1 - level) / 120)
    assert level - error < (right <= level).mean() < level + error


def test_a_wrong_key_is_told(many):
  assert (many[1] < 0.03).all() and (many[1] <= 0.01).mean() > 0.9


def test_confidences_that_are_not_finite_are_a_wrong_key():
  sure, reference = (
    np.ones((150, 20)),
    np.tile(np.linspace(0.5, 1, 40), (150, 1)),
  )
  sure[1, 3], sure[2, 3], sure[3, 3] = np.nan, np.inf, -np.inf
  reference[4, :30] = np.nan  # Raises no alarm.
  sure[5], reference[5] = 1 / 3, 1 / 3  # Equal ones are no evidence.
  rngs = jax.random.split(jax.random.key(1), 150)
  found = run(sure.astype(np.float32), reference.astype(np.float32), rngs)
  assert found[0] == 1 and found[4] > 0.5 and found[5] == 1
  assert (found[1:4] == np.float32(0.01)).all()


def test_arguments_are_checked():
  rng, one = jax.random.key(0), np.ones(3, np.float32)
  with pytest.raises(ValueError, match="draws=0"):
    fallback.wrong_key(one, one, draws=0, rng=rng)
  with pytest.raises(ValueError, match=r"confidence\[0\].*at least 1"):
    fallback.wrong_key(one[:0], one, rng=rng)
