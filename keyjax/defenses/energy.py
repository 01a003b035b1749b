"""Energy scores: a detector of inputs unlike those that a model was made for.

Guarantees:
  None.

Known breaks:
  An attacker who knows the score searches for inputs of low energy, too. Inputs
  that were made for the greatest logits have less energy than real ones: the
  detector then accepts them, and rejects real inputs.

Reference:
  Weitang Liu, Xiaoyun Wang, John D. Owens and Yixuan Li, "Energy-based
  out-of-distribution detection", NeurIPS 2020.
"""

import math

import jax
import jax.numpy as jnp

from keyjax.attacks.evasion.problem import as_float


def energy(logits: jax.Array, temperature: float = 1.0) -> jax.Array:
  """Return the energy of inputs, -T logsumexp(logits / T), float[n].

  Low for real inputs. Infinite where logits are not finite: such an input is
  rejected.

  Args:
    logits: float[n, classes].
    temperature: T, above 0.

  Raises:
    ValueError: If the temperature is not above 0.

  Example:
    >>> energy(jnp.asarray([[0.0, 40.0], [0.0, jnp.nan]])).tolist()
    [-40.0, inf]
  """
  if not temperature > 0:
    raise ValueError(f"temperature={temperature}: above 0")
  logits = as_float(logits)
  found = -temperature * jax.nn.logsumexp(logits / temperature, -1)
  return jnp.where(jnp.isfinite(logits).all(-1), found, jnp.inf)


def auroc(real: jax.Array, fooling: jax.Array) -> jax.Array:
  """Return the area under the ROC curve of a score, a scalar.

  The probability that a fooling input has a higher score than a real one; a tie
  counts as a half.

  Args:
    real: float[n], scores of real inputs.
    fooling: float[m], scores of fooling inputs.

  Example:
    >>> auroc(jnp.asarray([0.0, 1.0]), jnp.asarray([1.0, 2.0])).tolist()
    0.875
  """
  ordered = jnp.sort(real)
  ranks = [
    jnp.searchsorted(ordered, fooling, side=side) for side in ("left", "right")
  ]
  return (ranks[0] + ranks[1]).mean(dtype=real.dtype) / (2 * len(real))


def false_accepts(
  real: jax.Array, fooling: jax.Array, accepted: float = 0.95
) -> jax.Array:
  """Return the share of fooling inputs that pass as real, a scalar.

  At the threshold that accepts a share of the real inputs: the FPR at 95 %.

  Args:
    real: float[n], scores of real inputs.
    fooling: float[m], scores of fooling inputs.
    accepted: Share of the real inputs that the threshold accepts, or more.

  Raises:
    ValueError: If accepted is not above 0 and at most 1.

  Example:
    >>> false_accepts(jnp.arange(20.0), jnp.asarray([18.0, 19.0])).tolist()
    0.5
  """
  if not 0 < accepted <= 1:
    raise ValueError(f"accepted={accepted}: above 0, at most 1")
  threshold = jnp.sort(real)[math.ceil(accepted * len(real)) - 1]
  return (fooling <= threshold).mean(dtype=real.dtype)
