"""Defensive distillation: training on soft labels at a high temperature.

A teacher learns at temperature T; its softened predictions are the labels of a
student, which learns at T and is used at 1.

Guarantees:
  None.

Known breaks:
  At temperature 1 the student's logits are so large that softmax saturates and
  its gradient is 0 in float32. Attacks that use it find nothing; the same
  attacks on `logits / T`, or on a loss of the logits (`losses.margin`, `dlr`),
  find as much as without the defence. `keyjax.attacks.evasion`'s attacks with
  `loss="dlr"` are such attacks.

Reference:
  Nicolas Papernot et al., "Distillation as a defense to adversarial
  perturbations against deep neural networks", IEEE S&P 2016. Broken by Nicholas
  Carlini and David Wagner, "Towards evaluating the robustness of neural
  networks", IEEE S&P 2017.
"""

import jax
import jax.numpy as jnp

TEMPERATURE = 100.0  # Of the paper.


def soft_labels(
  logits: jax.Array, temperature: float = TEMPERATURE
) -> jax.Array:
  """Return a teacher's softened predictions, float[n, classes].

  Args:
    logits: The teacher's, float[n, classes].
    temperature: Divisor of the logits.

  Example:
    >>> [f"{x:.2f}" for x in soft_labels(jnp.asarray([0.0, 100.0]))]
    ['0.27', '0.73']
  """
  _check(temperature)
  return jax.nn.softmax(logits / temperature)


def distilled_loss(
  logits: jax.Array, labels: jax.Array, temperature: float = TEMPERATURE
) -> jax.Array:
  """Return the cross-entropy at a temperature, float[n].

  Args:
    logits: float[n, classes], of the teacher or of the student.
    labels: Soft labels, float[n, classes], for a student; classes, int[n], for
      the teacher.
    temperature: Divisor of the logits.
  """
  _check(temperature)
  logs = jax.nn.log_softmax(logits / temperature)
  if labels.ndim == logits.ndim - 1:
    labels = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
  return -jnp.sum(labels * logs, -1)


def _check(temperature: float) -> None:
  if not temperature > 0:
    raise ValueError(f"temperature={temperature}: above 0")
