"""Patterns that are worn: masks, photos with them, and how they would print."""

import jax
import jax.numpy as jnp
import numpy as np

_TINY = 1e-12  # Below a root: its gradient at 0.


def glasses(h: int, w: int) -> np.ndarray:
  """Return the mask of a pair of glasses, across the middle of a photo.

  Two frames as wide as 3/8 and as high as 1/4 of the photo, and a bridge; on 8
  by 8 pixels they have no lenses.

  Args:
    h: Height, 4 or more.
    w: Width, 4 or more.

  Returns:
    bool[h, w].

  Raises:
    ValueError: If the photo is too small.

  Example:
    >>> print(glasses(8, 8)[3:5].astype(int))
    [[1 1 1 1 1 1 1 1]
     [1 1 1 0 0 1 1 1]]
  """
  if min(h, w) < 4:
    raise ValueError(f"h {h}, w {w}: pass 4 or more")
  thick = max(1, round(h / 16))
  tall, wide = max(2 * thick, round(h / 4)), round(3 * w / 8)
  frame = np.ones((tall, wide), bool)
  frame[thick:-thick, thick:-thick] = False
  mask = np.zeros((h, w), bool)
  rows = slice((h - tall) // 2, (h - tall) // 2 + tall)
  mask[rows, :wide] = frame
  mask[rows, w - wide :] = frame
  mask[rows][:thick, wide : w - wide] = True
  return mask


def wear(
  inputs: jax.Array,
  pattern: jax.Array,
  mask: jax.Array,
  shifts: jax.Array | None = None,
) -> jax.Array:
  """Return photos with an accessory.

  Args:
    inputs: float[n, h, w, c].
    pattern: float[h, w, c], or float[n, h, w, c] for one of each photo.
    mask: bool[h, w], where the pattern covers the photo.
    shifts: int32[n, 2], pixels down and to the right by which the accessory
      sits elsewhere, partly outside if need be; None for none.

  Example:
    >>> mask = jnp.asarray([[True, False]])
    >>> photo, pattern = jnp.zeros((1, 1, 2, 1)), jnp.ones((1, 2, 1))
    >>> wear(photo, pattern, mask)[0, 0, :, 0].tolist()
    [1.0, 0.0]
    >>> wear(photo, pattern, mask, jnp.asarray([[0, 1]]))[0, 0, :, 0].tolist()
    [0.0, 1.0]
  """
  mask = jnp.asarray(mask)
  patterns = jnp.broadcast_to(pattern, inputs.shape)
  if shifts is None:
    return jnp.where(mask[None, ..., None], patterns, inputs)
  return jax.vmap(_wear_shifted, in_axes=(0, 0, None, 0))(
    inputs, patterns, mask, shifts
  )


def total_variation(pattern: jax.Array, mask: jax.Array) -> jax.Array:
  """Return the total variation of a pattern, a mean over the mask.

  Of pairs of neighbours that are both in the mask; summed over channels.

  Args:
    pattern: float[h, w, c].
    mask: bool[h, w].

  Example:
    >>> mask = jnp.ones((1, 2), bool)
    >>> round(float(total_variation(jnp.asarray([[[0.0], [1.0]]]), mask)), 3)
    0.5
  """
  squares = jnp.zeros_like(pattern)
  for axis in (0, 1):
    pair = jax.lax.slice_in_dim(mask, 1, None, axis=axis)
    pair &= jax.lax.slice_in_dim(mask, 0, -1, axis=axis)
    steps = jnp.where(pair[..., None], jnp.diff(pattern, axis=axis), 0)
    pad = [(0, 0)] * 3
    pad[axis] = (0, 1)
    squares += jnp.pad(jnp.square(steps), pad)
  return _mean_over(jnp.sqrt(squares + _TINY).sum(-1), mask)


def non_printability(
  pattern: jax.Array, mask: jax.Array, palette: jax.Array
) -> jax.Array:
  """Return how far a pattern is from printable colours, a mean over the mask.

  A pixel's score is the product of its distances to all colours: 0 if it has
  one of them.

  Args:
    pattern: float[h, w, c].
    mask: bool[h, w].
    palette: float[k, c], the colours that the printer prints as they are.

  Example:
    >>> pattern, mask = jnp.full((1, 1, 1), 0.25), jnp.ones((1, 1), bool)
    >>> palette = jnp.asarray([[0.0], [1.0]])
    >>> round(float(non_printability(pattern, mask, palette)), 4)
    0.1875
  """
  gaps = pattern[:, :, None] - palette[None, None]  # [h, w, k, c]
  distances = jnp.sqrt(jnp.square(gaps).sum(-1) + _TINY)
  return _mean_over(distances.prod(-1), mask)


def _wear_shifted(
  photo: jax.Array, pattern: jax.Array, mask: jax.Array, shift: jax.Array
) -> jax.Array:
  """Return one photo with an accessory that sits elsewhere."""
  h, w = mask.shape
  rows = jnp.arange(h, dtype=jnp.int32) - shift[0]
  columns = jnp.arange(w, dtype=jnp.int32) - shift[1]
  inside = ((rows >= 0) & (rows < h))[:, None]
  inside &= ((columns >= 0) & (columns < w))[None]
  place = jnp.clip(rows, 0, h - 1)[:, None], jnp.clip(columns, 0, w - 1)[None]
  return jnp.where((mask[place] & inside)[..., None], pattern[place], photo)


def _mean_over(values: jax.Array, mask: jax.Array) -> jax.Array:
  mask = mask.astype(values.dtype)
  return (values * mask).sum() / mask.sum()
