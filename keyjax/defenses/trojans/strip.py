"""STRIP: an input whose class survives any other image blended into it.

Guarantees:
  None. A trigger that is visible in a blend keeps the attacker's class whatever
  else is seen, and the entropy of the predictions is low.

Known breaks:
  Triggers that a blend hides (faint patterns, warps, one input as the key), or
  that fire in one class of images only. Images that are clearer than others
  have a low entropy, too.

Reference:
  Yansong Gao, Change Xu, Derui Wang, Shiping Chen, Damith Ranasinghe and Surya
  Nepal, "STRIP: a defence against trojan attacks on deep neural networks",
  ACSAC 2019.
"""

import jax
import jax.numpy as jnp

from keyjax.arguments import whole_number
from keyjax.attacks.evasion import checks
from keyjax.attacks.evasion.problem import Bounds, LogitsFn, as_float
from keyjax.attacks.privacy.signals import check_share


def entropies(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  clean: jax.Array,
  *,
  draws: int = 32,
  weight: float = 0.5,
  bounds: Bounds = (0.0, 1.0),
  rng: jax.Array,
) -> jax.Array:
  """Return the mean entropy of predictions on blends with clean images.

  In nats, from 0 to the logarithm of the number of classes; lower for an input
  with a trigger. A defender rejects what is below a quantile of the entropies
  of clean inputs.

  Args:
    logits_fn: Function from inputs to logits, float[n, classes].
    inputs: float[n, ...], the inputs to judge.
    clean: float[m, ...], images of the defender without a trigger.
    draws: Number of clean images that each input is blended with, drawn with
      replacement, the same number for all.
    weight: Weight of the clean image in a blend, between 0 and 1.
    bounds: Least and greatest value of a pixel.
    rng: PRNG key of the draws.

  Returns:
    float32[n]; NaN where logits are not finite.

  Raises:
    ValueError: If a shape or number is wrong.

  Example:
    >>> sure = lambda x: 9 * jnp.concatenate([x, 1 - x], -1)
    >>> one = jnp.ones((1, 1))
    >>> low = entropies(sure, one, one, rng=jax.random.key(0))
    >>> high = entropies(sure, one, 0 * one, rng=jax.random.key(0))
    >>> bool(low[0] < 0.01), bool(high[0] > 0.6)
    (True, True)
  """
  draws = whole_number(draws, "draws")
  weight = check_share(weight, "weight")
  checks.check_inputs(inputs, bounds)
  checks.check_inputs(clean, bounds)
  if inputs.shape[1:] != clean.shape[1:]:
    raise ValueError(
      f"clean has shape {clean.shape}: inputs have {list(inputs.shape[1:])}"
    )
  checks.count_classes(logits_fn, inputs[:1])
  n = len(inputs)
  rows = jax.random.randint(rng, (draws, n), 0, len(clean))

  def one(rows: jax.Array) -> jax.Array:
    mixed = (1 - weight) * inputs + weight * clean[rows]
    logits = as_float(logits_fn(mixed))
    log_p = jax.nn.log_softmax(logits)
    return -(jnp.exp(log_p) * log_p).sum(-1)

  return jax.lax.map(one, rows).mean(0)
