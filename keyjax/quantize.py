"""Int8 weights: per-channel symmetric quantization and its inverse.

A model with int8 kernels stays finite under any key, so its accuracy under a
wrong key is meaningful. Quantize first, then lock the values:
`masked(deep_lock(), INT8_LEAVES)`.
"""

from typing import Any

import flax
import jax
import jax.numpy as jnp

from keyjax import tree

INT8_LEAVES = ".*/values"


@flax.struct.dataclass
class Quantized:
  """A leaf as int8 values and one scale per channel of the last axis.

  Attributes:
    values: int8[..., channels], from -127 to 127.
    scale: float[channels], in the dtype of the original leaf.
  """

  values: jax.Array
  scale: jax.Array


def _is_quantized(x: Any) -> bool:
  return isinstance(x, Quantized)


def quantize(params: Any, pattern: str = ".*kernel") -> Any:
  """Replace the matching float leaves with `Quantized` ones.

  Args:
    params: Pytree.
    pattern: Regular expression of leaf paths; matching leaves must be floats
      with at least two axes.

  Returns:
    The tree, each value within half a step (`scale / 2`) of its original.

  Raises:
    ValueError: If nothing matches, or a match is not a float leaf with two or
      more axes.

  Example:
    >>> params = {"kernel": jnp.array([[1.0, -2.0], [0.5, 1.0]])}
    >>> quantize(params)["kernel"].values.tolist()
    [[127, -127], [64, 64]]
  """
  match = tree.matcher(pattern)
  paths, leaves, treedef = tree.flatten(params)
  if not any(map(match, paths)):
    raise ValueError(f"quantize: {tree.unmatched(pattern, paths)}")
  out = [
    _quantize(p, x) if match(p) else x
    for p, x in zip(paths, leaves, strict=True)
  ]
  return jax.tree.unflatten(treedef, out)


def _quantize(path: str, x: jax.Array) -> Quantized:
  if not jnp.issubdtype(x.dtype, jnp.floating) or x.ndim < 2:
    raise ValueError(
      f"quantize: leaf {path} is {x.dtype}{list(x.shape)}; "
      "floats with two axes or more are needed"
    )
  peak = jnp.abs(x).max(axis=tuple(range(x.ndim - 1)))  # [.., c] -> [c]
  scale = jnp.where(peak > 0, peak / 127, 1).astype(x.dtype)
  values = jnp.round(x / _row(scale, x.ndim))
  return Quantized(jnp.clip(values, -127, 127).astype(jnp.int8), scale)


def _row(scale: jax.Array, ndim: int) -> jax.Array:
  return jnp.expand_dims(scale, tuple(range(ndim - 1)))  # [c] -> [.., c]


def dequantize(params: Any) -> Any:
  """Return the tree with floats in place of its `Quantized` leaves."""

  def floats(x: Any) -> Any:
    if not _is_quantized(x):
      return x
    return x.values.astype(x.scale.dtype) * _row(x.scale, x.values.ndim)

  return jax.tree.map(floats, params, is_leaf=_is_quantized)
