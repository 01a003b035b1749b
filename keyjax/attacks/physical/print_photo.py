"""An image that is printed and photographed, as a function with a gradient."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.attacks.evasion import problem
from keyjax.attacks.physical import jpeg


class Photo(NamedTuple):
  """How an image is photographed; by default, nothing happens to it.

  What is random is drawn uniformly for each image.

  Attributes:
    perspective: Greatest move of each corner of the print, along each axis, in
      image sizes; below 0.25.
    rotation: Greatest angle, in degrees.
    shift: Greatest shift along each axis, in pixels.
    blur: Standard deviation of the Gaussian blur, in pixels; not random.
    gain: Least and greatest factor of the light.
    offset: Greatest light that is added or missing.
    shade: Greatest change of the gain from the centre to the edges, along a
      random direction.
    noise: Standard deviation of the sensor's Gaussian noise; not random.
    levels: Number of values that a pixel can have; None for all.
    quality: Quality of JPEG, 1 to 100, which works on 256 levels; None for no
      compression.
  """

  perspective: float = 0.0
  rotation: float = 0.0
  shift: float = 0.0
  blur: float = 0.0
  gain: tuple[float, float] = (1.0, 1.0)
  offset: float = 0.0
  shade: float = 0.0
  noise: float = 0.0
  levels: int | None = None
  quality: int | None = None


HANDHELD = Photo(
  perspective=0.03,
  rotation=6.0,
  shift=0.3,
  blur=0.4,
  gain=(0.85, 1.1),
  offset=0.05,
  shade=0.1,
  noise=0.03,
  levels=256,
  quality=75,
)


def photograph(
  rng: jax.Array, images: jax.Array, settings: Photo = HANDHELD
) -> jax.Array:
  """Return simulated photos of printed images.

  In this order: perspective, rotation and shift in one bilinear warp; blur;
  light; noise; levels; JPEG. What is beyond the print looks like its edge.
  After light and noise, values outside [0, 1] are clipped, as a sensor does.
  Gradients pass through all parts, straight through the rounding.

  With `functools.partial(photograph, settings=...)` it is a transform of
  `evasion.expectation` and of `destruction_rate`.

  Guarantees:
    A part that is switched off changes nothing, nor what the others draw; with
    all parts off, the images are returned bit for bit.

  Args:
    rng: PRNG key, or one for each image.
    images: float[n, h, w, c] in [0, 1], with 1 channel or 3.
    settings: A `Photo`; its values are compiled in.

  Returns:
    float[n, h, w, c].

  Raises:
    ValueError: If the images or settings are wrong.

  Reference:
    Alexey Kurakin, Ian Goodfellow and Samy Bengio, "Adversarial examples in
    the physical world", ICLR workshop 2017 (with a real camera). Models of a
    print as a random transform: Anish Athalye, Logan Engstrom, Andrew Ilyas and
    Kevin Kwok, "Synthesizing robust adversarial examples", ICML 2018.

  Example:
    >>> images = jnp.full((2, 8, 8, 1), 0.5)
    >>> darker = Photo(gain=(0.5, 0.5))
    >>> float(photograph(jax.random.key(0), images, darker).max())
    0.25
  """
  _check(images, settings)
  images = jnp.asarray(images)
  rngs = problem.example_rngs(rng, len(images), images)
  take = functools.partial(_take, settings=settings)
  return jax.vmap(take)(rngs, images)


def warp(image: jax.Array, corners: jax.Array) -> jax.Array:
  """Return what is inside four corners of an image, at the size of the image.

  Args:
    image: float[h, w, c].
    corners: float[4, 2], row and column of the points that move to the upper
      left, upper right, lower right and lower left corner, where (0, 0) is the
      corner of the first pixel and (h, w) that of the last one.

  Returns:
    float[h, w, c], by bilinear interpolation; the edge is repeated outside.

  Reference:
    Paul Heckbert, "Fundamentals of texture mapping and image warping", 1989.

  Example:
    >>> image = jnp.arange(4.0).reshape(2, 2, 1)
    >>> turned = jnp.asarray([[2.0, 0], [0, 0], [0, 2], [2, 2]])
    >>> warp(image, turned)[..., 0].tolist()
    [[2.0, 0.0], [3.0, 1.0]]
  """
  h, w, _ = image.shape
  down, right = jnp.meshgrid(
    (jnp.arange(h, dtype=image.dtype) + 0.5) / h,
    (jnp.arange(w, dtype=image.dtype) + 0.5) / w,
    indexing="ij",
  )
  a, b, c, d = corners
  # Homography of the unit square: a + right * along + down * across, divided.
  skew = a - b + c - d
  one, two = b - c, d - c
  whole = _cross(one, two)
  g, k = _cross(skew, two) / whole, _cross(one, skew) / whole
  along, across = b - a + g * b, d - a + k * d
  depth = 1 + g * right + k * down
  places = [
    (a[i] + right * along[i] + down * across[i]) / depth - 0.5 for i in (0, 1)
  ]
  sample = functools.partial(
    jax.scipy.ndimage.map_coordinates, order=1, mode="nearest"
  )
  return jax.vmap(sample, in_axes=(-1, None), out_axes=-1)(image, places)


def _take(rng: jax.Array, image: jax.Array, settings: Photo) -> jax.Array:
  """Return the photo of one image, [h, w, c]."""
  view, light, grain = jax.random.split(rng, 3)
  if settings.perspective or settings.rotation or settings.shift:
    image = warp(image, _corners(view, image, settings))
  if settings.blur:
    image = _blur(image, settings.blur)
  lit = settings.gain != (1.0, 1.0) or settings.offset or settings.shade
  if lit:
    image = _light(light, image, settings)
  if settings.noise:
    noise = jax.random.normal(grain, image.shape, image.dtype)
    image += settings.noise * noise
  if lit or settings.noise:
    image = jnp.clip(image, 0, 1)
  if settings.levels is not None:
    steps = settings.levels - 1
    image = jpeg.round_through(image * steps) / steps
  if settings.quality is not None:
    image = jpeg.compress(image, settings.quality)
  return image


def _corners(rng: jax.Array, image: jax.Array, settings: Photo) -> jax.Array:
  """Return where the corners of the photo are in the image, [4, 2]."""
  size = jnp.asarray(image.shape[:2], image.dtype)
  square = jnp.asarray([[0, 0], [0, 1], [1, 1], [1, 0]], image.dtype)
  draw = jax.random.uniform(rng, (11,), image.dtype, -1, 1)
  jitter = settings.perspective * draw[:8].reshape(4, 2)
  corners = (square - 0.5 + jitter) * size[None]
  angle = math.radians(settings.rotation) * draw[8]
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  turned = jnp.stack(
    [
      cos * corners[:, 0] - sin * corners[:, 1],
      sin * corners[:, 0] + cos * corners[:, 1],
    ],
    -1,
  )
  return turned + (size / 2 + settings.shift * draw[9:])[None]


def _cross(a: jax.Array, b: jax.Array) -> jax.Array:
  return a[0] * b[1] - a[1] * b[0]


def _blur(image: jax.Array, sigma: float) -> jax.Array:
  """Return the image after a Gaussian of up to 4 standard deviations."""
  radius = int(4 * sigma + 0.5)
  weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
  weights /= weights.sum()
  for axis, size in enumerate(image.shape[:2]):
    pad = [(0, 0)] * 3
    pad[axis] = (radius, radius)
    padded = jnp.pad(image, pad, "edge")
    image = sum(
      (
        float(weight) * jax.lax.slice_in_dim(padded, i, i + size, axis=axis)
        for i, weight in enumerate(weights)
      ),
      start=jnp.zeros_like(image),
    )
  return image


def _light(rng: jax.Array, image: jax.Array, settings: Photo) -> jax.Array:
  """Return the image under a random light."""
  h, w, _ = image.shape
  draw = jax.random.uniform(rng, (4,), image.dtype)
  low, high = settings.gain
  gain = low + (high - low) * draw[0]
  offset = settings.offset * (2 * draw[1] - 1)
  angle = 2 * math.pi * draw[2]
  # From -1 at one edge to 1 at the other, along either axis.
  down = (2 * jnp.arange(h, dtype=image.dtype) + 1) / h - 1
  right = (2 * jnp.arange(w, dtype=image.dtype) + 1) / w - 1
  slope = jnp.sin(angle) * down[:, None] + jnp.cos(angle) * right[None]
  shade = 1 + settings.shade * draw[3] * slope
  return gain * shade[..., None] * image + offset


def _check(images: jax.Array, settings: Photo) -> None:
  """Raise ValueError if images cannot be photographed with the settings."""
  shape, dtype = np.shape(images), jnp.result_type(images)
  if len(shape) != 4 or shape[-1] not in (1, 3) or 0 in shape:
    raise ValueError(f"images have shape {shape}: pass [n, h, w, 1 or 3]")
  if dtype not in (jnp.float32, jnp.float64):
    raise ValueError(f"images are {dtype}: pass float32 in [0, 1]")
  for name in ("rotation", "shift", "blur", "offset", "shade", "noise"):
    value = getattr(settings, name)
    if not 0 <= value < math.inf:
      raise ValueError(f"{name} is {value}: pass 0 or more")
  if not 0 <= settings.perspective < 0.25:
    raise ValueError(
      f"perspective is {settings.perspective}: pass 0 to below 0.25, where "
      "corners could cross"
    )
  low, high = settings.gain
  if not 0 <= low <= high < math.inf:
    raise ValueError(f"gain is {settings.gain}: pass 0 <= least <= greatest")
  if settings.levels is not None and settings.levels < 2:
    raise ValueError(f"levels is {settings.levels}: pass 2 or more, or None")
  if settings.quality is not None and not 1 <= settings.quality <= 100:
    raise ValueError(f"quality is {settings.quality}: pass 1 to 100, or None")
