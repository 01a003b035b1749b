"""A test of the key, by confidences: for schemes without a tag."""

import functools

import jax
import jax.numpy as jnp

from keyjax import arguments
from keyjax.attacks.evasion.problem import as_float


def wrong_key(
  confidence: jax.Array,
  reference: jax.Array,
  *,
  draws: int = 1999,
  rng: jax.Array,
) -> jax.Array:
  """Return the p-value of "the model is as sure as with the right key".

  A permutation test on the mean confidence of k inputs: the share of draws of k
  out of all k + n confidences whose mean is as low. Exact if inputs and key are
  those of the reference: then p or less has a probability of p at most. Where
  a confidence of the k is not finite, p is the least one.

  Args:
    confidence: float[k], of inputs under the key in question. Use inputs that
      were kept for this test: hard ones lower the confidence as well.
    reference: float[n], of other inputs of the same kind under the right key.
    draws: Number of draws; the least p-value is 1 / (draws + 1).
    rng: JAX PRNG key of the draws.

  Returns:
    A scalar from 0 to 1; stop if it is low, such as 0.01.

  Raises:
    ValueError: If there is no confidence, or not 1 draw at least.

  Example:
    >>> right, unsure = jnp.linspace(0.9, 1, 100), jnp.full(20, 0.7)
    >>> bool(wrong_key(unsure, right, rng=jax.random.key(0)) < 0.001)
    True
  """
  arguments.whole_number(draws, "draws")
  if confidence.ndim != 1 or reference.ndim != 1 or not confidence.size:
    raise ValueError(
      f"confidence{list(confidence.shape)}, reference{list(reference.shape)}: "
      "one axis each, and at least 1 confidence"
    )
  return _p_value(confidence, reference, draws, rng)


@functools.partial(jax.jit, static_argnums=2)
def _p_value(
  confidence: jax.Array, reference: jax.Array, draws: int, rng: jax.Array
) -> jax.Array:
  confidence = as_float(confidence)
  reference = reference.astype(confidence.dtype)
  # NaN is lower than any other confidence.
  lowest = jnp.where(jnp.isnan(reference), -jnp.inf, reference)
  pooled = jnp.concatenate([confidence, lowest])

  def one(rng: jax.Array) -> jax.Array:
    return jax.random.permutation(rng, pooled)[: len(confidence)].mean()

  found = jax.lax.map(one, jax.random.split(rng, draws), batch_size=64)
  # Sums of equal numbers differ by their order: a tie counts as low.
  ties = len(confidence) * jnp.finfo(pooled.dtype).eps
  low = found <= confidence.mean() + ties * jnp.abs(confidence.mean())
  low &= jnp.isfinite(confidence).all()
  return (1 + low.sum(dtype=pooled.dtype)) / (1 + draws)
