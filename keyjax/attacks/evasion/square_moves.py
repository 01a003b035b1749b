"""What the Square attack draws: its starts, and changes inside squares."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.attacks.evasion import problem
from keyjax.attacks.evasion.problem import Bounds

_TINY = 1e-12
_GRID = 5  # l2, l1: the start is a grid of 5 x 5 kernels.
_INSIDE = 1 - 1e-6  # l1: of the radius, against rounding.


class Ball(NamedTuple):
  """Where changes stay: in a ball and a box."""

  epsilon: Any
  norm: str
  bounds: Bounds

  def put(self, images: jax.Array, delta: jax.Array) -> jax.Array:
    """Return images with a change of the size of the ball."""
    if self.norm == "l1":
      return problem.project(
        images, images + delta, self.epsilon * _INSIDE, "l1", self.bounds
      )
    if self.norm == "l2":
      length = problem.sizes(delta, "l2") + _TINY
      delta = delta / problem.per_example(length, delta) * self.epsilon
    return jnp.clip(images + delta, *self.bounds)


def start(ball: Ball, images: jax.Array, rngs: jax.Array) -> jax.Array:
  """Return the first points: vertical stripes, or for l2 and l1 a grid.

  Args:
    ball: Ball and box.
    images: float[n, h, w, c].
    rngs: PRNG key for each example.
  """
  _, height, width, channels = images.shape
  if ball.norm == "linf":
    shape = (1, width, channels)
    delta = jax.vmap(lambda rng: _signs(rng, shape, images.dtype))(rngs)
    return ball.put(images, delta * ball.epsilon)
  side = max(min(height, width) // _GRID, 1)
  rows, columns = height // side, width // side
  top, left = (max(x - side * _GRID, 0) // 2 for x in (height, width))
  rows, columns = min(rows, (height - top) // side), (width - left) // side
  kernel = jnp.asarray(_kernel(side, ball.norm), images.dtype)

  def draw(rng: jax.Array) -> jax.Array:
    signs, flips = jax.random.split(rng)
    signs = _signs(signs, (rows, 1, columns, 1, channels), images.dtype)
    flips = jax.random.bernoulli(flips, shape=(rows, 1, columns, 1, 1))
    either = jnp.where(
      flips, kernel.T[:, None, :, None], kernel[:, None, :, None]
    )  # [rows, side, columns, side, 1]
    tiles = (either * signs).reshape(rows * side, columns * side, channels)
    below, right = height - top - len(tiles), width - left - tiles.shape[1]
    return jnp.pad(tiles, ((top, below), (left, right), (0, 0)))

  return ball.put(images, jax.vmap(draw)(rngs))


def mover(
  ball: Ball, images: jax.Array, sides: np.ndarray
) -> tuple[Callable[..., jax.Array], np.ndarray]:
  """Return how to change a square, and what to pass for each query.

  Args:
    ball: Ball and box.
    images: float[n, h, w, c], the unchanged images.
    sides: int[queries], sides of the squares.

  Returns:
    A function of PRNG keys, current images and the entry of a query; and the
    entries, int[queries].
  """
  if ball.norm == "linf":
    fill = jax.vmap(_fill, in_axes=(0, 0, 0, None, None))

    def filled(rngs: Any, current: Any, side: Any) -> jax.Array:
      found = fill(rngs, images, current, side, ball.epsilon)
      return jnp.clip(found, *ball.bounds)

    return filled, sides
  kinds, entries = np.unique(sides, return_inverse=True)
  size = int(kinds.max())
  padded = [
    np.pad(_kernel(int(side), ball.norm), (0, size - int(side)))
    for side in kinds
  ]
  kernels = jnp.asarray(np.stack(padded), images.dtype)
  known = jnp.asarray(kinds)
  shift = jax.vmap(_shift, in_axes=(0, 0, None, None, None))

  def shifted(rngs: Any, current: Any, kind: Any) -> jax.Array:
    delta = current - images
    delta = shift(rngs, delta, known[kind], kernels[kind], ball)
    return ball.put(images, delta)

  return shifted, entries


def _fill(
  rng: jax.Array,
  image: jax.Array,
  current: jax.Array,
  side: jax.Array,
  epsilon: Any,
) -> jax.Array:
  """Set a square to the image plus or minus epsilon, by channel."""
  draws = jax.random.uniform(rng, (2 + image.shape[2],), jnp.float32)
  inside, _, _ = _square(draws[:2], image.shape, side)
  signs = jnp.where(draws[2:] < 0.5, -1, 1).astype(image.dtype)
  return jnp.where(inside, image + epsilon * signs[None, None], current)


def _shift(
  rng: jax.Array,
  delta: jax.Array,
  side: jax.Array,
  kernel: jax.Array,
  ball: Ball,
) -> jax.Array:
  """Move the change in one square to another, with a kernel added."""
  height, width, channels = delta.shape
  draws = jax.random.uniform(rng, (5 + channels,), jnp.float32)
  first, row, column = _square(draws[:2], delta.shape, side)
  second, _, _ = _square(draws[2:4], delta.shape, side)
  signs = jnp.where(draws[5:] < 0.5, -1, 1).astype(delta.dtype)
  kernel = jnp.where(draws[4] < 0.5, kernel.T, kernel)
  size = len(kernel)
  kernel = jnp.pad(kernel, ((0, height - size), (0, width - size)))
  kernel = jnp.roll(jnp.roll(kernel, row, 0), column, 1)[..., None]
  inner = jnp.where(first, delta, 0)
  change = kernel * signs[None, None]
  change += inner / (_length(inner, ball.norm) + _TINY)
  change /= _length(change, ball.norm) + _TINY
  whole = problem.sizes(delta[None], ball.norm)[0]
  both = _length(jnp.where(first | second, delta, 0), ball.norm)
  if ball.norm == "l2":
    spare = jnp.maximum(ball.epsilon**2 - whole**2, 0)
    change *= jnp.sqrt(spare / channels + both**2)
  else:
    spare = jnp.maximum(ball.epsilon - whole, 0)
    change *= spare + both * channels
  return jnp.where(first, change, jnp.where(second, 0, delta))


def _square(
  draws: jax.Array, shape: tuple[int, ...], side: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Return a square as a mask [h, w, 1], its row and its column.

  Args:
    draws: float32[2] in [0, 1): where it is.
    shape: Shape of an image.
    side: Its side.
  """
  height, width, _ = shape
  places = jnp.stack([height - side + 1, width - side + 1])
  row, column = (draws * places.astype(draws.dtype)).astype(jnp.int32)
  down = jnp.arange(height, dtype=jnp.int32)[:, None, None] - row
  right = jnp.arange(width, dtype=jnp.int32)[None, :, None] - column
  inside = (down >= 0) & (down < side) & (right >= 0) & (right < side)
  return inside, row, column


def _signs(rng: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
  return jax.random.rademacher(rng, shape).astype(dtype)


def _length(x: jax.Array, norm: str) -> jax.Array:
  """Return the norm of each channel, [1, 1, c]."""
  if norm == "l1":
    return jnp.abs(x).sum((0, 1), keepdims=True)
  return jnp.sqrt(jnp.square(x).sum((0, 1), keepdims=True))


def _kernel(side: int, norm: str) -> np.ndarray:
  """Return the published change of a square: a hill beside a valley."""
  top = side // 2
  parts = [_hill(top, side, norm), -_hill(side - top, side, norm)]
  return _unit(np.concatenate(parts), norm)


def _hill(height: int, width: int, norm: str) -> np.ndarray:
  """Return a sum of nested rectangles of norm 1."""
  power = 4 if norm == "l1" else 2
  rings = max(height, width) // 2 + 1
  levels = np.cumsum(1 / np.arange(rings, 0, -1.0) ** power)[::-1]
  down = np.abs(np.arange(height) - height // 2)[:, None]
  right = np.abs(np.arange(width) - width // 2)
  return _unit(levels[np.maximum(down, right)], norm)


def _unit(x: np.ndarray, norm: str) -> np.ndarray:
  length = np.abs(x).sum() if norm == "l1" else np.linalg.norm(x)
  return x / max(length, _TINY)
