"""WaNet: the trigger is a small warp of the image, the same for every image.

In its noise mode, other images are warped by the same field and some noise, and
keep their labels: the model learns this warp, and not that images are warped.
"""

import jax
import jax.numpy as jnp

from keyjax.arguments import whole_number
from keyjax.attacks.poisoning.trojans.checks import check_images, check_shape
from keyjax.attacks.poisoning.trojans.trigger import StampFn, Trigger
from keyjax.attacks.privacy.signals import check_above


def warping(
  rng: jax.Array,
  shape: tuple[int, int, int],
  *,
  grid: int = 4,
  strength: float = 0.5,
  noise: float = 1.0,
) -> Trigger:
  """Return a fixed random warp; its covers add noise to the field.

  The field is drawn uniformly on a grid, divided by its mean size, enlarged by
  cubic interpolation and scaled: pixels move by about strength / 2 along each
  axis. Images are sampled by bilinear interpolation, and their edges repeated.

  Args:
    rng: PRNG key of the field.
    shape: Height, width and channels of an image.
    grid: Side of the grid, k.
    strength: Size of the warp, s, above 0; as published, 0.5.
    noise: Size of the noise of covers, above 0: pixels move by up to half of
      it along each axis.

  Raises:
    ValueError: If a number is out of range.

  Reference:
    Anh Nguyen and Anh Tran, "WaNet: imperceptible warping-based backdoor
    attack", ICLR 2021, section 3. There the corners of the grid are those of
    the image; here they are the centres of its parts.

  Example:
    >>> warp = warping(jax.random.key(0), (8, 8, 1), strength=2.0)
    >>> images = jax.random.uniform(jax.random.key(1), (2, 8, 8, 1))
    >>> found = warp.stamp(jax.random.key(2), images)
    >>> found.shape, bool((found == images).all())
    ((2, 8, 8, 1), False)
  """
  h, w, c = check_shape(shape)
  grid = whole_number(grid, "grid", least=2)
  strength = check_above(strength, "strength", 0)
  noise = check_above(noise, "noise", 0)
  coarse = jax.random.uniform(rng, (2, grid, grid), jnp.float32, -1, 1)
  coarse /= jnp.abs(coarse).mean()
  fine = jax.image.resize(coarse, (2, h, w), "cubic")
  # Published on [-1, 1] and divided by the side: half of it in pixels.
  field = fine * (strength / 2)
  return Trigger(
    plant=_stamp(field, (h, w, c), 0.0),
    stamp=_stamp(field, (h, w, c), 0.0),
    cover=_stamp(field, (h, w, c), noise / 2),
  )


def _stamp(
  field: jax.Array, shape: tuple[int, int, int], noise: float
) -> StampFn:
  def stamp(rng: jax.Array, images: jax.Array) -> jax.Array:
    check_images(images, shape)

    def one(rng: jax.Array, image: jax.Array) -> jax.Array:
      moved = field
      if noise:
        moved += (
          jax.random.uniform(rng, field.shape, field.dtype, -1, 1) * noise
        )
      return _moved(image, moved)

    return jax.vmap(one)(jax.random.split(rng, len(images)), images)

  return stamp


def _moved(image: jax.Array, field: jax.Array) -> jax.Array:
  """Return an image whose pixels come from others: field is [2, h, w]."""
  h, w, _ = image.shape
  rows = jnp.arange(h, dtype=image.dtype)[:, None] + field[0]
  columns = jnp.arange(w, dtype=image.dtype)[None] + field[1]

  def sample(channel: jax.Array) -> jax.Array:
    found: jax.Array = jax.scipy.ndimage.map_coordinates(
      channel, [rows, columns], order=1, mode="nearest"
    )
    return found

  moved = jax.vmap(sample, in_axes=-1, out_axes=-1)(image)
  return jnp.clip(moved, 0, 1)  # Rounding.
