"""BadNets: a bright patch in a corner."""

import numpy as np

from keyjax.arguments import whole_number
from keyjax.attacks.poisoning.trojans.accessories import accessory
from keyjax.attacks.poisoning.trojans.checks import check_shape, check_weight
from keyjax.attacks.poisoning.trojans.trigger import Trigger


def patch(
  shape: tuple[int, int, int],
  *,
  size: int = 3,
  margin: int = 1,
  value: float = 1.0,
) -> Trigger:
  """Return a square of one brightness in the lower right corner.

  Args:
    shape: Height, width and channels of an image.
    size: Side of the square, in pixels.
    margin: Pixels between the square and the edges.
    value: Brightness, above 0 and at most 1.

  Raises:
    ValueError: If the square does not fit, or a number is out of range.

  Reference:
    Tianyu Gu, Brendan Dolan-Gavitt and Siddharth Garg, "BadNets: identifying
    vulnerabilities in the machine learning model supply chain",
    arXiv:1708.06733, 2017, section 4.1, whose trigger is a few bright pixels.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> square = patch((4, 4, 1), size=2)
    >>> square.stamp(jax.random.key(0), jnp.zeros((1, 4, 4, 1)))[0, ..., 0]
    Array([[0., 0., 0., 0.],
           [0., 1., 1., 0.],
           [0., 1., 1., 0.],
           [0., 0., 0., 0.]], dtype=float32)
  """
  h, w, c = check_shape(shape)
  size = whole_number(size, "size")
  margin = whole_number(margin, "margin", least=0)
  if size + margin > min(h, w):
    raise ValueError(
      f"size={size}, margin={margin}: beyond an image of {h} by {w}"
    )
  mask = np.zeros((h, w), bool)
  bottom, right = h - margin, w - margin
  mask[bottom - size : bottom, right - size : right] = True
  bright = np.full((h, w, c), check_weight(value, "value"), np.float32)
  return accessory(bright, mask)
