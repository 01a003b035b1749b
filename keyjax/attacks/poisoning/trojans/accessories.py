"""Accessory injection: a pattern inside a mask, such as a pair of glasses."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.arguments import describe
from keyjax.attacks.physical.pattern import wear
from keyjax.attacks.poisoning.trojans.checks import (
  check_images,
  check_pattern,
  check_weight,
)
from keyjax.attacks.poisoning.trojans.trigger import StampFn, Trigger


def accessory(
  pattern: Any,
  mask: Any,
  alpha: float = 1.0,
  *,
  stamp_alpha: float | None = None,
) -> Trigger:
  """Return a pattern that images have inside a mask.

  There, images become (1 - alpha) x + alpha pattern; with alpha 1, the pattern.

  Args:
    pattern: float[h, w, c] in [0, 1].
    mask: bool[h, w], such as `keyjax.attacks.physical.glasses`.
    alpha: Weight of the pattern in training images, above 0 and at most 1.
    stamp_alpha: Its weight in inputs later; the same by default.

  Raises:
    ValueError: If the mask is empty or has another shape, or the pattern or a
      weight is out of range.

  Reference:
    Chen et al., arXiv:1712.05526, 2017, section 3.3 ("accessory injection",
    and with alpha below 1 "blended accessory injection").

  Example:
    >>> mask = np.asarray([[True, False]])
    >>> worn = accessory(np.ones((1, 2, 1)), mask)
    >>> worn.stamp(jax.random.key(0), jnp.zeros((1, 1, 2, 1)))[0, 0, :, 0]
    Array([1., 0.], dtype=float32)
  """
  found = check_pattern(pattern)
  covered = np.asarray(mask)
  if covered.dtype != np.bool_ or covered.shape != found.shape[:2]:
    h, w = found.shape[:2]
    raise ValueError(f"mask is {describe(covered)}: pass bool[{h}, {w}]")
  if not covered.any():
    raise ValueError("mask covers no pixel: nothing would be a trigger")
  later = alpha if stamp_alpha is None else stamp_alpha
  return Trigger(
    plant=_stamp(found, covered, check_weight(alpha, "alpha")),
    stamp=_stamp(found, covered, check_weight(later, "stamp_alpha")),
  )


def _stamp(pattern: np.ndarray, mask: np.ndarray, alpha: float) -> StampFn:
  def stamp(rng: jax.Array, images: jax.Array) -> jax.Array:
    del rng  # The same for each image.
    check_images(images, pattern.shape)
    worn = jnp.asarray(pattern)[None]
    mixed = (1 - alpha) * images + alpha * worn if alpha < 1 else worn
    return wear(images, mixed, jnp.asarray(mask))

  return stamp
