"""JPEG against SciPy's cosine transform and Pillow's decoder."""

import functools
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
from PIL import Image

from keyjax.attacks.physical import jpeg


@functools.cache
def image(
  channels: int,
  shape: tuple[int, int] = (13, 21),  # No whole blocks.
) -> np.ndarray:
  """Return uint8[h, w, c]: smooth, with a little noise."""
  draw = np.random.default_rng(0)
  found = scipy.ndimage.gaussian_filter(
    draw.uniform(size=(*shape, channels)), (2, 2, 0)
  )
  found = (found - found.min()) / np.ptp(found)
  found += 0.02 * draw.normal(size=found.shape)
  return np.round(255 * np.clip(found, 0, 1)).astype(np.uint8)


def decoded(pixels: np.ndarray, quality: int) -> Image.Image:
  file = io.BytesIO()
  pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
  Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0)
  return Image.open(file)


def compressed(pixels: np.ndarray, quality: int) -> np.ndarray:
  """Return levels, which must be whole numbers."""
  found = jax.jit(jpeg.compress, static_argnums=1)(
    jnp.asarray(pixels / 255, jnp.float32), quality
  )
  levels = 255 * np.asarray(found)
  np.testing.assert_allclose(levels, np.round(levels), atol=1e-3)
  return np.round(levels)


def test_dct_is_scipys() -> None:
  planes = np.random.default_rng(0).normal(size=(16, 24, 2))
  planes = planes.astype(np.float32)
  found = np.asarray(jpeg.dct(jnp.asarray(planes)))
  for row, column in ((0, 0), (8, 16)):
    block = np.s_[row : row + 8, column : column + 8]
    want = scipy.fft.dctn(planes[block], axes=(0, 1), norm="ortho")
    np.testing.assert_allclose(found[block], want, atol=1e-5)
  again = jpeg.inverse_dct(jnp.asarray(found))
  np.testing.assert_allclose(again, planes, atol=1e-5)


@pytest.mark.parametrize("quality", [1, 25, 49, 50, 75, 100])
def test_tables_are_pillows(quality: int) -> None:
  found = decoded(image(3), quality).quantization
  for table, want in zip(jpeg.tables(quality), found.values(), strict=True):
    np.testing.assert_array_equal(table, np.reshape(want, (8, 8)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [10, 75])
def test_pixels_are_pillows(channels: int, quality: int) -> None:
  pixels = image(channels, (45, 61))
  want = np.asarray(decoded(pixels, quality), float).reshape(pixels.shape)
  error = np.abs(compressed(pixels, quality) - want)
  # Rounding moves a coefficient midway between two steps either way, and with
  # it its block: which one depends on the processor.
  blocks = error[:40, :56].reshape(5, 8, 7, 8, channels).max((1, 3, 4))
  assert np.mean(blocks <= 2) > 0.75
  assert error.mean() < 0.5
  assert np.abs(pixels - want).mean() > 3  # What compression itself changes.


def test_the_best_quality_changes_little() -> None:
  assert np.abs(compressed(image(1), 100) - image(1)).max() <= 1


@pytest.mark.parametrize(
  "frequency, size, low, high",
  [
    ((0, 1), 55.0, 0.6, 0.76),  # Two steps and a half.
    ((0, 1), 44.0, 0, 0.05),  # Two steps.
    ((7, 7), 10.0, 0, 0.05),  # A tenth of a step: it is removed.
  ],
)
def test_gradient_along_a_frequency(
  frequency: tuple[int, int], size: float, low: float, high: float
) -> None:
  """It is that of the cubic: 3/4 halfway between steps, 0 at whole ones."""
  coefficients = np.zeros((8, 8, 1), np.float32)
  coefficients[frequency] = 1
  move = jpeg.inverse_dct(jnp.asarray(coefficients))
  start = (128 + size * move) / 255
  _, pull = jax.vjp(functools.partial(jpeg.compress, quality=25), start)
  assert low <= (pull(move)[0] * move).sum() <= high
