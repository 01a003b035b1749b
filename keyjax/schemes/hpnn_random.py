"""Random weights, inputs and signs with the shapes of a model's."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from keyjax import meshes, tree
from keyjax.schemes.hpnn_lock import WEIGHTS, module_of

# Large leaves repeat one block; a prime, so that no two rows are alike.
_BLOCK = np.random.default_rng(0).standard_normal(65_537, np.float32)
_WORDS = {1: jnp.float16, 2: jnp.bfloat16, 4: jnp.float32}


def signs(i: int, features: int) -> np.ndarray:
  """Return int8[features] of +1 and -1, half of each, or one -1."""
  order = np.random.default_rng(i).permutation(features)
  return np.where(order % 2 == 0, -1, 1).astype(np.int8)


def weights(params: Any, positive: bool) -> Any:
  """Return random values for every float in a tree, where the params are.

  Args:
    params: Variables or their shapes.
    positive: Whether no value is negative.
  """
  paths, leaves, treedef = tree.flatten(params)
  variables = isinstance(params, Mapping) and "params" in params
  others = _no_params(params)
  out = []
  for i, (path, leaf) in enumerate(zip(paths, leaves, strict=True)):
    state = path in others or (variables and not path.startswith("params/"))
    out.append(_placed(_leaf(i, path, leaf, state, positive), leaf))
  return jax.tree.unflatten(treedef, out)


def states(rest: Any) -> Any:
  """Return a state that a pass carries, with random values for constants.

  An adapter that starts at zero may be trained later. Other values stay, and so
  do arrays that are traced: those are arguments.

  Args:
    rest: State of nnx that is no argument of the pass.
  """
  paths, leaves, treedef = tree.flatten(rest)
  drawn = [
    leaf
    if isinstance(leaf, jax.core.Tracer)
    else _placed(_leaf(i, path, leaf, True, False), leaf)
    for i, (path, leaf) in enumerate(zip(paths, leaves, strict=True))
  ]
  return jax.tree.unflatten(treedef, drawn)


def _no_params(params: Any) -> set[str]:
  """Return the paths in a state of nnx of what is no `Param`."""
  found, _ = jax.tree_util.tree_flatten_with_path(
    params, is_leaf=lambda x: isinstance(x, nnx.Variable)
  )
  return {
    f"{tree.path_str(path)}/value"
    for path, x in found
    if isinstance(x, nnx.Variable) and not isinstance(x, nnx.Param)
  }


def _placed(value: Any, leaf: Any) -> Any:
  if value is leaf:
    return leaf
  # What no one has put on a device may be used on any, such as all of a mesh.
  if isinstance(leaf, jax.Array) and not meshes.is_committed(leaf):
    return jax.device_put(value)
  return jax.device_put(value, getattr(leaf, "sharding", None))


def _leaf(i: int, path: str, leaf: Any, state: bool, positive: bool) -> Any:
  dtype = getattr(leaf, "dtype", None)
  if dtype is None:
    return leaf
  name = module_of(path)[1]
  if not jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
    if jnp.issubdtype(dtype, jnp.unsignedinteger) and name in WEIGHTS:
      dtype = _WORDS.get(np.dtype(dtype).itemsize, dtype)  # Ciphertext.
    if jnp.issubdtype(dtype, jnp.inexact):
      if state:
        return _state(i, path, leaf).astype(dtype)
      drawn = _drawn(i, leaf.shape, name)
      return (np.abs(drawn) if positive else drawn).astype(dtype)
  if isinstance(leaf, jax.ShapeDtypeStruct):
    return _integers(i, leaf.shape, dtype)
  return leaf


def _state(i: int, path: str, leaf: Any) -> np.ndarray:
  """Return statistics of a batch, or the value of another collection."""
  known = not isinstance(leaf, jax.ShapeDtypeStruct)
  name = path.removesuffix("/value").rsplit("/", 1)[-1]
  statistics = path.startswith("batch_stats/") or path.endswith(
    ("/mean/value", "/var/value")
  )
  if known and not statistics:
    value = np.asarray(leaf, np.float32)
    # An adapter that starts at zero would be missed.
    if value.size < 2 or np.ptp(value) > 0:
      return value
  normal = _normal(i, leaf.shape)
  return normal / 2 if name == "mean" else 0.5 + np.abs(normal)


def _drawn(i: int, shape: tuple[int, ...], name: str) -> np.ndarray:
  """Return weights that keep the size of what passes through them."""
  normal = _normal(i, shape)
  if len(shape) > 1:
    fan_in = max(1, normal.size // shape[-1]) if normal.size else 1
    return normal * np.float32(np.sqrt(2 / fan_in))
  return normal / 2 + (1 if name == "scale" else 0)


def _normal(i: int, shape: tuple[int, ...]) -> np.ndarray:
  return np.resize(np.roll(_BLOCK, 7919 * (i + 1)), shape)


def _integers(i: int, shape: tuple[int, ...], dtype: Any) -> Any:
  if jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
    return jax.random.split(jax.random.key(i), shape)
  # 0 and 1 are tokens of every vocabulary.
  return (_normal(i, shape) > 0).astype(dtype)


def inputs(x: Any) -> Any:
  """Return a batch: the given one, or random values for shapes.

  A batch of one repeated number would hide differences, so it is replaced.
  """
  _, leaves, treedef = tree.flatten(x)
  return jax.tree.unflatten(
    treedef, [_input(i, a) for i, a in enumerate(leaves)]
  )


def _input(i: int, leaf: Any) -> Any:
  dtype = getattr(leaf, "dtype", None)
  if dtype is None or jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
    return leaf
  shape = leaf.shape
  if isinstance(leaf, jax.ShapeDtypeStruct):
    if not jnp.issubdtype(dtype, jnp.inexact):
      return _integers(i, shape, dtype)
  else:
    value = np.asarray(leaf)
    if not jnp.issubdtype(dtype, jnp.inexact):
      return value
    wide = np.abs(value.astype(np.float32)) if value.size else value
    if value.size < 2 or (np.isfinite(wide).all() and np.ptp(wide) > 0):
      return value
  return (np.abs(_normal(i, shape)) % 1).astype(dtype)
