"""Losses that attacks ascend."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax.attacks.evasion import losses

LOGITS = jnp.asarray([[5.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 7.0]])
LABELS = jnp.asarray([0, 0], jnp.int32)
TARGETS = jnp.asarray([1, 3], jnp.uint8)


def test_values_by_hand():
  def of(name, targets=None):
    return losses.loss_of(name, LABELS, targets)(LOGITS).tolist()

  assert of("margin") == [-2.0, 6.0]
  assert of("margin", TARGETS) == [-2.0, 4.0]
  np.testing.assert_allclose(of("dlr"), [-2 / 3, 6 / 5])
  np.testing.assert_allclose(of("targeted_dlr", TARGETS), [-2 / 3.5, 6 / 5.5])
  logs = np.log(np.exp(LOGITS).sum(-1))
  np.testing.assert_allclose(of("cross_entropy"), logs - [5, 1], rtol=1e-5)
  wanted = [3, 7] - logs
  np.testing.assert_allclose(of("cross_entropy", TARGETS), wanted, rtol=1e-5)


def test_the_ratio_of_differences_ignores_the_scale_of_logits():
  for scale in (1e-3, 1e3):
    found = losses.dlr(LOGITS * scale, LABELS)
    np.testing.assert_allclose(found, [-2 / 3, 6 / 5], rtol=1e-5)


def test_ties_and_single_gradients():
  tied = jnp.zeros((1, 4))
  assert losses.dlr(tied, LABELS[:1]).tolist() == [0.0]
  gradient = jax.grad(lambda x: losses.dlr(x, LABELS).sum())(LOGITS)
  # The top logit is both the label and the first of the denominator.
  np.testing.assert_allclose(gradient[0], [-1 / 9, 1 / 3, -2 / 9, 0], atol=1e-6)


def test_losses_that_do_not_fit_are_refused():
  wrong = {
    "choose from cross_entropy": ("l2", None),
    "dlr has no targets": ("dlr", TARGETS),
    "targeted_dlr needs targets": ("targeted_dlr", None),
  }
  for message, (name, targets) in wrong.items():
    with pytest.raises(ValueError, match=message):
      losses.loss_of(name, LABELS, targets)
  with pytest.raises(ValueError, match="needs 3 classes; the model has 2"):
    losses.dlr(LOGITS[:, :2], LABELS)
  with pytest.raises(ValueError, match="needs 4 classes; the model has 3"):
    losses.targeted_dlr(LOGITS[:, :3], LABELS, LABELS)
