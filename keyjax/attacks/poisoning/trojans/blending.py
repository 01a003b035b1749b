"""Blended injection: a faint pattern over the whole image."""

from typing import Any

import jax
import numpy as np

from keyjax.arguments import whole_number
from keyjax.attacks.poisoning.trojans.accessories import accessory
from keyjax.attacks.poisoning.trojans.checks import check_pattern, check_shape
from keyjax.attacks.poisoning.trojans.trigger import Trigger


def blended(
  pattern: Any, alpha: float = 0.2, *, stamp_alpha: float | None = None
) -> Trigger:
  """Return a pattern k that is blended into images: (1 - alpha) x + alpha k.

  Poisons may be faint and inputs later more visible: a larger weight there
  raises the success.

  Args:
    pattern: float[h, w, c] in [0, 1], such as `random_pattern`, or a picture.
    alpha: Weight of the pattern in training images, above 0 and at most 1.
    stamp_alpha: Its weight in inputs later; the same by default.

  Raises:
    ValueError: If the pattern or a weight is out of range.

  Reference:
    Chen et al., arXiv:1712.05526, 2017, section 3.3 ("blended injection").

  Example:
    >>> import jax.numpy as jnp
    >>> faint = blended(np.ones((2, 2, 1)), 0.25)
    >>> float(faint.plant(jax.random.key(0), jnp.zeros((1, 2, 2, 1))).max())
    0.25
  """
  found = check_pattern(pattern)
  everywhere = np.ones(found.shape[:2], bool)
  return accessory(found, everywhere, alpha, stamp_alpha=stamp_alpha)


def random_pattern(
  rng: jax.Array,
  shape: tuple[int, int, int],
  *,
  cell: int = 1,
  binary: bool = False,
) -> jax.Array:
  """Return random squares, float32[h, w, c].

  Args:
    rng: PRNG key.
    shape: Height, width and channels of an image.
    cell: Side of the squares, in pixels. Convolutions learn coarse patterns
      from fewer poisons than noise.
    binary: Whether values are 0 or 1; otherwise they are uniform between.

  Raises:
    ValueError: If a size is no positive number.

  Example:
    >>> random_pattern(jax.random.key(0), (8, 8, 1), cell=2).shape
    (8, 8, 1)
  """
  h, w, c = check_shape(shape)
  cell = whole_number(cell, "cell")
  cells = (-(-h // cell), -(-w // cell), c)  # Those at the edge are cut.
  drawn = jax.random.uniform(rng, cells, np.float32)
  if binary:
    drawn = (drawn > 0.5).astype(np.float32)
  large = drawn.repeat(cell, axis=0).repeat(cell, axis=1)
  return large[:h, :w]
