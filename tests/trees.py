"""Small trees and losses that several tests share."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

DTYPES = ("float32", "bfloat16", "float16", "int8")


def bits(x: Any) -> np.ndarray:
  """Return the bit pattern of a leaf, on the host; NaN equals itself."""
  if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
    x = jax.random.key_data(x)
  x = np.asarray(x)
  return (
    x.view(f"u{x.dtype.itemsize}")
    if x.ndim
    else x.reshape(1).view(f"u{x.dtype.itemsize}")
  )


def assert_same_bits(a: Any, b: Any) -> None:
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert x.dtype == y.dtype
    np.testing.assert_array_equal(bits(x), bits(y))


def params(dtype: str, seed: int = 0) -> dict[str, Any]:
  """Return a tree of every kind of leaf; floats hold -0.0 and subnormals."""
  rng = np.random.default_rng(seed)

  def leaf(*shape: int, first: tuple[float, ...] = ()) -> jax.Array:
    if dtype == "int8":
      return jnp.asarray(rng.integers(-128, 128, shape), jnp.int8)
    values = np.asarray(rng.normal(size=shape).astype(np.float32))
    values.reshape(-1)[: len(first)] = first
    return jnp.asarray(values.astype(jnp.dtype(dtype)))

  return {
    "conv": {"kernel": leaf(8, 5), "bias": leaf(7)},
    "dense": {"kernel": leaf(8, 3, first=(-0.0, 1e-40, 6e-8))},
    "scalar": leaf(),
    "empty": jnp.asarray(np.zeros((0, 4), np.float32)),
    "count": jnp.asarray(np.arange(3, dtype=np.int32)),
    "flag": jnp.asarray([True, False]),
    "rng": jax.random.key(0),
  }


def variables(model: Any, x: Any, deviation: float = 0.3) -> Any:
  """Return variables of a Linen model, drawn by NumPy: nothing is compiled.

  Args:
    model: Linen module.
    x: Input, or its shape.
    deviation: Standard deviation; large enough for every bias, scale and
      projection to matter.
  """
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(model.init, jax.random.key(0), x)
  return jax.tree.map(
    lambda s: jnp.asarray(rng.normal(0, deviation, s.shape), s.dtype), shapes
  )


def fresh(model: nn.Module, x: Any) -> Any:
  """Return variables as a Linen model starts with, drawn by NumPy."""
  shapes = jax.eval_shape(model.init, jax.random.key(0), x)
  rng = np.random.default_rng(0)

  def leaf(path: Any, like: Any) -> jax.Array:
    name = path[-1].key
    if name in ("bias", "mean", "scale", "var"):
      value = float(name in ("scale", "var"))
      return jnp.asarray(np.full(like.shape, value, like.dtype))
    drawn = rng.normal(size=like.shape)
    while (outside := np.abs(drawn) > 2).any():  # Flax truncates there too.
      drawn[outside] = rng.normal(size=outside.sum())
    drawn /= 0.88 * np.sqrt(np.prod(like.shape[:-1]))
    return jnp.asarray(drawn.astype(like.dtype))

  return jax.tree_util.tree_map_with_path(leaf, shapes)


def loss(tree: Any, batch: Any) -> jax.Array:
  """Return a loss with a gradient everywhere, for AdvParams on any tree."""
  floats = [
    x.astype(jnp.float32)
    for x in jax.tree.leaves(tree)
    if jnp.issubdtype(x.dtype, jnp.floating) and x.size
  ]
  return sum((jnp.sum(jnp.sin(x) + x**2) for x in floats), jnp.float32(0))
