"""JPEG as a function with a gradient: what a decoder shows of an image."""

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.attacks.evasion.wrappers import bpda

BLOCK = 8

# Quantisation steps at quality 50: annex K of the standard.
LUMINANCE = np.array(
  [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
  ]
)
CHROMINANCE = np.array(
  [
    [17, 18, 24, 47, 99, 99, 99, 99],
    [18, 21, 26, 66, 99, 99, 99, 99],
    [24, 26, 56, 99, 99, 99, 99, 99],
    [47, 66, 99, 99, 99, 99, 99, 99],
    [99, 99, 99, 99, 99, 99, 99, 99],
    [99, 99, 99, 99, 99, 99, 99, 99],
    [99, 99, 99, 99, 99, 99, 99, 99],
    [99, 99, 99, 99, 99, 99, 99, 99],
  ]
)

# Rows: luminance, blueness, redness of JFIF; columns: red, green, blue.
_TO_YCC = np.array(
  [
    [0.299, 0.587, 0.114],
    [-0.168735892, -0.331264108, 0.5],
    [0.5, -0.418687589, -0.081312411],
  ]
)
_FROM_YCC = np.array(
  [[1, 0, 1.402], [1, -0.344136286, -0.714136286], [1, 1.772, 0]]
)


def tables(quality: int) -> tuple[np.ndarray, np.ndarray]:
  """Return the luminance and chrominance steps of a quality, [8, 8] each.

  Args:
    quality: 1 to 100, on the scale of the Independent JPEG Group.

  Example:
    >>> [int(table[0, 0]) for table in tables(75)]
    [8, 9]
  """
  percent = 5000 // quality if quality < 50 else 200 - 2 * quality
  scaled = [(table * percent + 50) // 100 for table in (LUMINANCE, CHROMINANCE)]
  return np.clip(scaled[0], 1, 255), np.clip(scaled[1], 1, 255)


def dct(planes: jax.Array) -> jax.Array:
  """Return the orthonormal cosine transforms of the blocks of planes.

  Args:
    planes: float[h, w, c], whole blocks of 8 by 8.

  Returns:
    float[h, w, c], the coefficients of each block in its place.

  Example:
    >>> round(float(dct(jnp.ones((8, 8, 1)))[0, 0, 0]), 3)
    8.0
  """
  rows, columns = (_cosines(size) for size in planes.shape[:2])
  return _both_sides(rows, planes, columns)


def inverse_dct(coefficients: jax.Array) -> jax.Array:
  """Return the planes with these coefficients, float[h, w, c]."""
  rows, columns = (_cosines(size) for size in coefficients.shape[:2])
  return _both_sides(rows.T, coefficients, columns.T)


def compress(image: jax.Array, quality: int) -> jax.Array:
  """Return an image as it is decoded after compression.

  Bytes, YCbCr without subsampling, blocks of 8 by 8, the standard tables. The
  entropy coding loses nothing and is left out. Encoders in integer arithmetic
  round a little differently: Pillow's pixels differ by less than half a level
  in the mean up to quality 75, by up to one at 95.

  The gradient passes straight through the rounding of pixels, and through that
  of coefficients as through a cubic that is flat at whole steps: what JPEG
  removes has little gradient, and flat blocks have none.

  Args:
    image: float[h, w, c] in [0, 1], with 1 channel or 3; edges are repeated up
      to whole blocks.
    quality: 1 to 100.

  Reference:
    ITU-T T.81, 1992. Cubic: Richard Shin and Dawn Song, "JPEG-resistant
    adversarial images", NIPS workshop on machine learning and computer
    security, 2017.

  Example:
    >>> image = jnp.full((10, 12, 3), 0.5)
    >>> round(float(compress(image, 75).mean()), 3)
    0.502
  """
  luminance, chrominance = tables(quality)
  planes = round_through(255 * image) - 128.0
  if image.shape[-1] == 3:
    # The level of 128 cancels: it is that of grey.
    planes = round_through(_mix(planes, _TO_YCC))
    steps = np.stack([luminance, chrominance, chrominance], -1)
  else:
    steps = luminance[..., None]
  planes = _quantise(planes, steps)
  planes = jnp.clip(round_through(planes), -128, 127)
  if image.shape[-1] == 3:
    planes = round_through(_mix(planes, _FROM_YCC))
  return jnp.clip(planes + 128.0, 0, 255) / 255.0


def _quantise(planes: jax.Array, steps: np.ndarray) -> jax.Array:
  """Return planes[h, w, c] after steps[8, 8, c] in the frequencies."""
  h, w, _ = planes.shape
  padded = jnp.pad(planes, ((0, -h % BLOCK), (0, -w % BLOCK), (0, 0)), "edge")
  blocks = (padded.shape[0] // BLOCK, padded.shape[1] // BLOCK, 1)
  sizes = jnp.asarray(np.tile(steps, blocks), planes.dtype)
  return inverse_dct(sizes * _round_cubic(dct(padded) / sizes))[:h, :w]


def _nearest(x: jax.Array) -> jax.Array:
  """Round, and halves away from 0, as encoders do."""
  return jnp.sign(x) * jnp.floor(jnp.abs(x) + 0.5)


def _cubic(x: jax.Array) -> jax.Array:
  nearest = jax.lax.stop_gradient(_nearest(x))
  return nearest + (x - nearest) ** 3


round_through = bpda(_nearest)  # With the gradient of the identity.
_round_cubic = bpda(_nearest, _cubic)


def _mix(planes: jax.Array, matrix: np.ndarray) -> jax.Array:
  """Return the channels of planes[h, w, 3] times a matrix."""
  return jnp.einsum(
    "hwc,dc->hwd",
    planes,
    jnp.asarray(matrix, planes.dtype),
    precision="highest",
  )


def _cosines(size: int) -> np.ndarray:
  """Return the orthonormal cosines of all blocks, [size, size].

  One product over all blocks: small ones would waste an accelerator, and
  reshaping to blocks would lose how a batch is sharded.
  """
  frequency, place = np.meshgrid(range(BLOCK), range(BLOCK), indexing="ij")
  found = np.cos(np.pi * frequency * (2 * place + 1) / (2 * BLOCK)) / 2
  found[0] /= np.sqrt(2)
  return np.kron(np.eye(size // BLOCK), found)


def _both_sides(
  left: np.ndarray, planes: jax.Array, right: np.ndarray
) -> jax.Array:
  """Return each plane of planes[h, w, c] between two matrices."""
  return jnp.einsum(
    "ui,ijc,vj->uvc",
    jnp.asarray(left, planes.dtype),
    planes,
    jnp.asarray(right, planes.dtype),
    precision="highest",
  )
