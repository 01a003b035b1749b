"""Arrays of other widths than 32 bits, under strict promotion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from keyjax import fallback

LOGITS = np.random.default_rng(0).normal(size=(6, 4))
LABELS = np.asarray([0, 1, 2, 0, 1, 2])
GAIN = np.asarray([0.25, 0.5, 1.0, 0.0, 1.0, 0.75])
SLOW = pytest.mark.slow
WIDTHS = [(np.float64, np.float32), (np.float32, np.float64)]


@pytest.mark.parametrize(("one", "other"), WIDTHS)
def test_the_loss_is_as_exact_as_the_logits(one, other):
  logs = scipy.special.log_softmax(LOGITS.astype(one), -1)
  wanted = -logs[np.arange(6), LABELS] - GAIN * logs[:, -1]
  with jax.enable_x64(True):
    found = jax.jit(fallback.deferral_loss)(
      LOGITS.astype(one), LABELS, GAIN.astype(other)
    )
  assert found.dtype == one
  np.testing.assert_allclose(found, wanted, rtol=8 * np.finfo(one).eps)


def test_the_loss_of_narrow_logits():
  found = jax.jit(fallback.deferral_loss)(
    jnp.asarray(LOGITS, jnp.bfloat16), LABELS, jnp.asarray(GAIN, jnp.bfloat16)
  )
  assert found.dtype == jnp.float32 and jnp.isfinite(found).all()


@pytest.mark.parametrize(
  ("one", "other"), [WIDTHS[0], pytest.param(*WIDTHS[1], marks=SLOW)]
)
def test_a_wrong_key_is_told_by_any_width(one, other):
  with jax.enable_x64(True):
    right, low = np.linspace(0.9, 1, 100, dtype=other), np.full(20, 0.7, one)
    found = [
      fallback.wrong_key(x, right, draws=99, rng=jax.random.key(0))
      for x in (low, right[::5].astype(one))
    ]
  assert found[0].dtype == one
  assert float(found[0]) == pytest.approx(0.01) and float(found[1]) > 0.1


def test_narrow_confidences_have_enough_digits_for_a_test():
  right = jnp.linspace(0.9, 1, 100, dtype=jnp.bfloat16)
  low = jnp.full(20, 0.85, jnp.bfloat16)
  p = fallback.wrong_key(low, right, draws=99, rng=jax.random.key(0))
  same = fallback.wrong_key(right[::5], right, draws=99, rng=jax.random.key(0))
  assert p <= 0.01 and same > 0.1
