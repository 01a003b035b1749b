"""Gradients of several sums of logits with one forward pass."""

import jax

from keyjax.attacks.evasion.convolutions import channels_last
from keyjax.attacks.evasion.problem import LogitsFn, as_float


def gradients(
  logits_fn: LogitsFn, inputs: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Return logits and the gradients of weighted sums of them.

  Args:
    logits_fn: Function from inputs to logits.
    inputs: float[n, ...].
    weights: float[r, n, classes], the weights of r sums for each example. Rows
      of the identity give the Jacobian.

  Returns:
    float[n, classes], the logits, and float[r, n, ...], the gradients.

  Example:
    >>> import jax.numpy as jnp
    >>> weights = jnp.asarray([[[1.0, -1.0]]])
    >>> gradients(lambda x: 2 * x, jnp.ones((1, 2)), weights)[1].tolist()
    [[[2.0, -2.0]]]
  """

  def evaluate(inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    logits, to_inputs = jax.vjp(lambda x: as_float(logits_fn(x)), inputs)
    each = jax.vmap(lambda w: to_inputs(w)[0])
    return logits, each(weights.astype(logits.dtype))

  logits, found = channels_last(evaluate)(inputs)
  return logits, found
