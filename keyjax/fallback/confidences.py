"""Confidences: functions from logits, float[..., classes], to float[...].

A greater one is surer. Each is minus infinity where logits are not finite,
below every threshold.

References:
  C. K. Chow, "On optimum recognition error and reject tradeoff", IEEE
  Transactions on Information Theory 16(1), 1970 (the greatest probability).
  Weitang Liu, Xiaoyun Wang, John D. Owens and Yixuan Li, "Energy-based
  out-of-distribution detection", NeurIPS 2020.
"""

import jax
import jax.numpy as jnp

from keyjax.attacks.evasion.problem import as_float
from keyjax.defenses import energy


def max_softmax(logits: jax.Array) -> jax.Array:
  """Return the probability of the most probable class.

  Example:
    >>> max_softmax(jnp.asarray([[3.0, 3.0], [0.0, jnp.nan]])).tolist()
    [0.5, -inf]
  """
  logits = as_float(logits)
  return where_finite(logits, jax.nn.softmax(logits).max(-1))


def margin(logits: jax.Array) -> jax.Array:
  """Return how much more probable the best class is than the second.

  Example:
    >>> margin(jnp.asarray([[3.0, 3.0], [90.0, 0.0]])).tolist()
    [0.0, 1.0]
  """
  logits = as_float(logits)
  best = jax.lax.top_k(jax.nn.softmax(logits), 2)[0]
  return where_finite(logits, best[..., 0] - best[..., 1])


def negative_entropy(logits: jax.Array) -> jax.Array:
  """Return minus the entropy of the predicted classes, in nats.

  Example:
    >>> negative_entropy(jnp.asarray([[999.0, 0.0], [0.0, jnp.nan]])).tolist()
    [0.0, -inf]
  """
  logits = as_float(logits)
  logs = jax.nn.log_softmax(logits)
  return where_finite(logits, (jnp.exp(logs) * logs).sum(-1))


def negative_energy(logits: jax.Array, temperature: float = 1.0) -> jax.Array:
  """Return minus the energy, T logsumexp(logits / T).

  Args:
    logits: float[..., classes].
    temperature: T, above 0.

  Raises:
    ValueError: If the temperature is not above 0.

  Example:
    >>> negative_energy(jnp.asarray([[0.0, 40.0], [0.0, jnp.inf]])).tolist()
    [40.0, -inf]
  """
  return -energy.energy(logits, temperature)


def where_finite(logits: jax.Array, confidence: jax.Array) -> jax.Array:
  """Return a confidence, minus infinity where logits are not finite."""
  return jnp.where(jnp.isfinite(logits).all(-1), confidence, -jnp.inf)
