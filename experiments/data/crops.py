"""Crops of images on the host, before they are batched."""

import numpy as np
import PIL.Image

Array = np.ndarray
Box = tuple[int, int, int, int]  # left, top, right, bottom


def centre_box(height: int, width: int, rng: np.random.Generator) -> Box:
  """Return the middle square, 7/8 of the short side."""
  del rng  # Unused: the centre is the centre.
  side = max(1, round(min(height, width) * 7 / 8))
  left = (width - side) // 2
  top = (height - side) // 2
  return left, top, left + side, top + side


def random_box(height: int, width: int, rng: np.random.Generator) -> Box:
  """Return a box of 8 to 100 % of the area (Szegedy et al., 2015)."""
  for _ in range(10):
    area = rng.uniform(0.08, 1) * height * width
    ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    w = round(np.sqrt(area * ratio))
    h = round(np.sqrt(area / ratio))
    if 1 <= w <= width and 1 <= h <= height:
      left = int(rng.integers(width - w + 1))
      top = int(rng.integers(height - h + 1))
      return left, top, left + w, top + h
  return centre_box(height, width, rng)


def resized(image: Array, box: Box, size: int) -> Array:
  """Return the content of the box as a square of `size` pixels.

  `uint8[h, w, c]` -> `uint8[size, size, c]`
  """
  grey = image.shape[-1] == 1
  picture = PIL.Image.fromarray(image[..., 0] if grey else image)
  resized = picture.resize((size, size), PIL.Image.Resampling.BILINEAR, box)
  return np.asarray(resized).reshape(size, size, image.shape[-1])
