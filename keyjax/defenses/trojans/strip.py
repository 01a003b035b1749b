"""STRIP: an input whose class survives any other image on top of it.

Guarantees:
  None. A trigger that shows through another image keeps the attacker's class
  whatever else is seen, and the entropy of the predictions is low.

Known breaks:
  Triggers that another image hides (warps, one input as the key), or that fire
  in one class of images only. Images that are clearer than others have a low
  entropy, too.

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
  weight: float = 1.0,
  bounds: Bounds = (0.0, 1.0),
  rng: jax.Array,
) -> jax.Array:
  """Return the mean entropy of predictions under other images.

  Clean images are added to the input, and sums are clipped to the bounds, as in
  the paper. A mean of both images halves a trigger, and many fire no more.

  In nats, from 0 to the logarithm of the number of classes; lower for an input
  with a trigger. A defender rejects what is below a quantile of the entropies
  of clean inputs.

  Args:
    logits_fn: Function from inputs to logits, float[n, classes].
    inputs: float[n, ...], the inputs to judge.
    clean: float[m, ...], images of the defender without a trigger.
    draws: Number of clean images that are added to each input, one at a time,
      drawn with replacement.
    weight: Factor of the clean image, above 0 and at most 1.
    bounds: Least and greatest value of a pixel.
    rng: PRNG key of the draws.

  Returns:
    float32[n]; NaN where logits are not finite.

  Raises:
    ValueError: If a shape or number is wrong.

  Example:
    >>> sure = lambda x: 9 * jnp.concatenate([x, 1 - x], -1)
    >>> clean = jnp.asarray([[0.0], [0.5], [0.9]])
    >>> inputs = jnp.asarray([[1.0], [0.1]])  # No image changes the first.
    >>> found = entropies(sure, inputs, clean, rng=jax.random.key(0))
    >>> bool(found[0] < 0.01), bool(found[1] > 0.05)
    (True, True)
  """
  draws = whole_number(draws, "draws")
  if not check_share(weight, "weight"):
    raise ValueError(f"weight={weight}: above 0, at most 1")
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
    mixed = jnp.clip(inputs + weight * clean[rows], *bounds)
    logits = as_float(logits_fn(mixed))
    log_p = jax.nn.log_softmax(logits)
    return -(jnp.exp(log_p) * log_p).sum(-1)

  return jax.lax.map(one, rows).mean(0)
