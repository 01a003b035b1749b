"""Models under attack: linear ones with known optima, and trained digits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tests.attacks import toys

SHAPE = (8, 8, 8, 1)  # One example a device; the shape of the digits.
CLASSES = 10


@functools.cache
def weights(classes: int = CLASSES) -> np.ndarray:
  """Return weights that point to each class with a margin of its own."""
  draw = np.random.default_rng(0).normal(size=(64, classes))
  return draw.astype(np.float32)


def linear(x: jax.Array, w: jax.Array | None = None) -> jax.Array:
  w = jnp.asarray(weights()) if w is None else w
  offset = jnp.arange(w.shape[1], dtype=w.dtype) / 9
  return x.reshape(len(x), -1) @ w + offset[None]


def two(x: jax.Array) -> jax.Array:
  """Return two logits, of which the second has all the weight, and is ahead."""
  found = (x.reshape(len(x), -1) - 0.5) @ jnp.asarray(weights(1))
  return jnp.concatenate([jnp.full_like(found, -8), found], -1)


def inputs() -> jax.Array:
  draw = np.random.default_rng(1).uniform(0.3, 0.7, SHAPE)
  return jnp.asarray(draw, jnp.float32)


def labels() -> jax.Array:
  return linear(inputs()).argmax(-1).astype(jnp.int32)


def net(x: jax.Array) -> jax.Array:
  return toys.NET.apply(toys.trained(), x)


@functools.cache
def digits(n: int = 64) -> tuple[jax.Array, jax.Array]:
  """Return test digits; the model is trained, outside of any trace."""
  toys.trained()
  test = toys.digits()[1]
  return jnp.asarray(test.image[:n]), jnp.asarray(test.label[:n])
