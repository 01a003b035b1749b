"""Distillation, which hides gradients, and the penalty of saturation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from keyjax.defenses import distilled_loss, saturation, soft_labels


def test_labels_and_soft_labels() -> None:
  logits = jnp.asarray([[1.0, 3.0, -2.0]])
  hard = distilled_loss(logits, jnp.asarray([1]), 2.0)
  want = optax.softmax_cross_entropy_with_integer_labels(
    logits / 2, jnp.asarray([1])
  )
  np.testing.assert_allclose(hard, want, rtol=1e-6)
  soft = soft_labels(logits, 2.0)
  # Its least value, the entropy, is reached by the teacher's own logits.
  least = distilled_loss(logits, soft, 2.0)
  entropy = -(soft * jnp.log(soft)).sum(-1)
  np.testing.assert_allclose(least, entropy, rtol=1e-5)
  gradient = jax.grad(lambda z: distilled_loss(z, soft, 2.0).sum())(logits)
  np.testing.assert_allclose(gradient, 0.0, atol=1e-7)
  with pytest.raises(ValueError, match="temperature=0"):
    soft_labels(logits, 0)


def test_distilled_logits_hide_gradients_and_dividing_them_shows_them() -> None:
  """A model trained at T=100 has logits 100 times as large at T=1."""
  weights = jnp.asarray([[1.0, -1.0], [-1.0, 1.0]])
  student = lambda x: 100 * 4 * (x - 0.5) @ weights  # noqa: E731
  x = jnp.asarray([[0.9, 0.2]])

  def gradient(temperature: float) -> jax.Array:
    loss = lambda x: distilled_loss(  # noqa: E731
      student(x), jnp.asarray([0]), temperature
    ).sum()
    return jax.grad(loss)(x)

  assert not gradient(1.0).any()
  assert (gradient(100.0) != 0).all()
  moved = x + 0.4 * jnp.sign(gradient(100.0))
  assert int(student(x).argmax()) == 0 and int(student(moved).argmax()) == 1


@pytest.mark.parametrize(
  ("activation", "saturated", "apart"),
  [
    ("sigmoid", [0.0, 1.0], 0.25),
    ("tanh", [-1.0, 1.0], 0.75),
    ("relu", [0.0, 0.0], 0.5),
  ],
)
def test_saturated_units_cost_nothing(
  activation: str, saturated: list[float], apart: float
) -> None:
  hidden = [jnp.asarray([saturated, [0.5, saturated[1]]]), jnp.zeros((2, 0, 3))]
  assert saturation(hidden, activation).tolist() == [0.0, apart]


def test_what_is_unknown_is_refused() -> None:
  with pytest.raises(ValueError, match="gelu"):
    saturation([jnp.zeros((1, 2))], "gelu")
  with pytest.raises(ValueError, match="no layer"):
    saturation([])
