"""Energy scores, and the curve that they are judged by."""

import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from keyjax.defenses import energy


def test_energy_is_low_where_logits_are_high() -> None:
  logits = jnp.asarray([[1.0, 2.0], [3.0, 4.0], [0.0, jnp.inf]])
  found = energy.energy(logits)
  np.testing.assert_allclose(
    found[:2], -np.log(np.exp([1, 3]) + np.exp([2, 4]))
  )
  assert found[0] > found[1] and found[2] == jnp.inf
  # At a low temperature it is minus the greatest logit.
  np.testing.assert_allclose(energy.energy(logits[:2], 1e-3), [-2, -4])
  with pytest.raises(ValueError, match="temperature=0"):
    energy.energy(logits, 0)


@pytest.mark.parametrize("digits", [1, 6])  # With ties, and without.
def test_the_area_is_that_of_the_curve(digits: int) -> None:
  draw = np.random.default_rng(0)
  real = draw.normal(size=200).round(digits).astype(np.float32)
  odd = draw.normal(1, size=70).round(digits).astype(np.float32)
  odd[:3] = np.inf
  found = energy.auroc(jnp.asarray(real), jnp.asarray(odd))
  truth = np.r_[np.zeros(200), np.ones(70)]
  scores = np.r_[real, np.minimum(odd, 1e9)]
  wanted = sklearn.metrics.roc_auc_score(truth, scores)
  np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_false_accepts_at_a_share_of_real_inputs() -> None:
  real = jnp.arange(100.0)
  odd = jnp.asarray([94.0, 95.0, jnp.inf, -5.0])
  assert energy.false_accepts(real, odd) == 0.5
  assert energy.false_accepts(real, odd, 0.01) == 0.25
  assert energy.false_accepts(real, odd, 1.0) == 0.75
  with pytest.raises(ValueError, match="accepted=0"):
    energy.false_accepts(real, odd, 0)
