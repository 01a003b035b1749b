"""Agreement, accuracy and the weights of two models."""

import jax.numpy as jnp
import numpy as np
import pytest

from keyjax.attacks.copies import likeness

LOGITS = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 0.5], [0.0, 0.0, 3.0]])


def test_answers_that_are_not_finite_agree_with_nothing() -> None:
  broken = LOGITS.copy()
  broken[0, 2] = np.nan
  stack = np.stack([LOGITS, broken, -LOGITS])
  assert np.allclose(likeness.agreement(stack, LOGITS), [1, 2 / 3, 0])
  assert likeness.agreement(broken, broken) == pytest.approx(2 / 3)
  labels = np.array([0, 1, 0])
  assert np.allclose(likeness.accuracy(stack, labels), [2 / 3, 1 / 3, 1 / 3])


def test_weights_that_differ_in_a_sign_of_zero_are_not_identical() -> None:
  one = {"w": np.array([0.0, 2.0], np.float32)}
  other = {"w": np.array([-0.0, 2.0], np.float32)}
  assert likeness.difference(one, one).identical
  found = likeness.difference(one, other)
  assert not found.identical and found.largest == 0 and found.cosine == 1


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_floats_of_16_bits_are_floats(dtype) -> None:
  given = jnp.asarray(LOGITS, dtype)
  assert likeness.agreement(given, LOGITS) == 1
  assert likeness.accuracy(given, np.array([0, 1, 2])) == 1


def test_wrong_arguments_are_named() -> None:
  with pytest.raises(ValueError, match="the same inputs and classes"):
    likeness.agreement(LOGITS, LOGITS[:2])
  with pytest.raises(ValueError, match="pass floats"):
    likeness.agreement(np.zeros(3), np.zeros(3))
  with pytest.raises(ValueError, match="range from 0 to 7"):
    likeness.accuracy(LOGITS, np.array([0, 1, 7]))
  for empty in (LOGITS[:0], LOGITS[:, :0]):
    with pytest.raises(ValueError, match="of an input or more"):
      likeness.agreement(empty, empty)
  with pytest.raises(ValueError, match="of an input or more"):
    likeness.accuracy(LOGITS[:0], np.zeros(0, int))
  with pytest.raises(ValueError, match="pass as many models in both"):
    likeness.agreement(np.stack([LOGITS] * 2), np.stack([LOGITS] * 3))
  with pytest.raises(ValueError, match="the first model has no weights"):
    likeness.difference({}, {})
  weights = {"w": np.zeros(3, np.float32)}
  with pytest.raises(ValueError, match="have other weights"):
    likeness.difference(weights, {"w": np.zeros(4, np.float32)})
  with pytest.raises(ValueError, match="have other weights"):
    likeness.difference(weights, {"v": np.zeros(3, np.float32)})
