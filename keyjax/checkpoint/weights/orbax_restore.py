"""Arrays of Orbax trees, read into host memory or onto any devices."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from keyjax.checkpoint.errors import CheckpointContentError
from keyjax.checkpoint.format import tree_structure
from keyjax.checkpoint.format.manifest import DTYPES
from keyjax.checkpoint.parts import rng_keys
from keyjax.checkpoint.parts.restore_plan import fits_jax
from keyjax.checkpoint.weights.orbax_trees import (
  Keys,
  StoredArray,
  StoredTree,
  read_tree,
  with_keys,
)
from keyjax.errors import ArgumentError


class _Read(NamedTuple):
  """How a leaf is read.

  Attributes:
    args: Arguments for Orbax.
    finish: Function from what Orbax returns to the leaf.
  """

  args: ocp.RestoreArgs
  finish: Callable[[Any], Any]


def process_options(alone: bool) -> ocp.options.MultiprocessingOptions:
  """Return Orbax's options for all processes together, or this one alone."""
  if not alone or jax.process_count() == 1:
    return ocp.options.MultiprocessingOptions()
  process = jax.process_index()
  return ocp.options.MultiprocessingOptions(
    primary_host=process,
    active_processes={process},
    barrier_sync_key_prefix=f"process-{process}",
  )


def checkpointer(alone: bool = False) -> ocp.Checkpointer:
  """Return a checkpointer of trees.

  Args:
    alone: With several processes, whether this one acts without the others.
  """
  options = process_options(alone)
  return ocp.Checkpointer(
    ocp.PyTreeCheckpointHandler(multiprocessing_options=options),
    multiprocessing_options=options,
  )


def restore_tree(path: Any, like: Any, alone: bool = False) -> Any:
  """Read a tree; see `restore_plain`.

  Raises:
    CheckpointContentError: If it is of another tree.
    ArgumentError: If `like` requests what JAX cannot hold.
  """
  with checkpointer(alone) as opened:
    stored = read_tree(path, opened)
    if like is None:
      targets = {k: _target_as_saved(k, x) for k, x in stored.arrays.items()}
      return _build(stored, _read(path, opened, stored, targets))
    targets = dict(with_keys(like))
    check_same_tree(stored, targets)
    found = _read(path, opened, stored, targets)
    treedef = jax.tree.structure(like)
    return jax.tree.unflatten(treedef, [found[keys] for keys in targets])


def restore_on_host(path: Any) -> Any:
  """Read a tree as NumPy arrays; PRNG keys as arrays of JAX.

  Raises:
    CheckpointContentError: If it holds no tree, or something else than arrays.
  """
  with checkpointer() as opened:
    stored = read_tree(path, opened)
    targets = {
      keys: _target_as_saved(keys, x)
      if x.generator
      else np.empty((), _dtype(keys, x))
      for keys, x in stored.arrays.items()
    }
    return _build(stored, _read(path, opened, stored, targets))


def _build(stored: StoredTree, leaves: dict[Keys, Any]) -> Any:
  """Return the tree as it was saved."""
  if stored.structure is None:
    in_order = [leaves[keys] for keys in stored.keys]
    return jax.tree.unflatten(jax.tree.structure(stored.metadata), in_order)
  keys_in_order = tree_structure.leaf_keys(stored.structure)
  by_number = {i: leaves[keys] for i, keys in enumerate(keys_in_order)}
  return tree_structure.rebuild(stored.structure, by_number, len(by_number))


def _dtype(keys: Keys, stored: StoredArray) -> np.dtype:
  if not stored.dtype:
    raise CheckpointContentError(
      f"leaf {'/'.join(keys)} is a {stored.what}; only arrays are read"
    )
  return np.dtype(DTYPES.get(stored.dtype, stored.dtype))


def _target_as_saved(keys: Keys, stored: StoredArray) -> Any:
  dtype = _dtype(keys, stored)
  if stored.generator:
    shape = rng_keys.check_words(stored.generator, stored.shape)
    key_dtype = rng_keys.key_type(stored.generator)[0]
    return jax.ShapeDtypeStruct(shape, key_dtype)
  if stored.is_number:
    return dtype.type(0).item()
  if fits_jax(dtype):
    return jax.ShapeDtypeStruct(stored.shape, dtype)
  return np.empty((), dtype)


def check_same_tree(stored: StoredTree, targets: dict[Keys, Any]) -> None:
  """Raise a CheckpointContentError unless the requested leaves are stored.

  Without it Orbax would cast a leaf of another dtype.
  """
  have = stored.arrays
  for keys in sorted({*have, *targets}):
    if keys in have and keys in targets:
      if _fits(have[keys], targets[keys]):
        continue
    found = have[keys].describe() if keys in have else "absent"
    wanted = _describe(targets[keys]) if keys in targets else "absent"
    raise CheckpointContentError(
      f"leaf {'/'.join(keys) or '(root)'} is {found} there, {wanted} was "
      "expected"
    )


def _fits(stored: StoredArray, target: Any) -> bool:
  """Return whether a leaf that is requested is the one that is stored."""
  if isinstance(target, int | float):  # It takes any scalar.
    return stored.shape == () and not stored.generator
  if _is_lost_empty(stored, target) or not stored.dtype:
    return True  # What is not an array is refused where it would be read.
  return stored.describe() == _describe(target)


def _describe(x: Any) -> str:
  """Return `uint32[2, 3]`, or the type of a number."""
  if not hasattr(x, "dtype"):
    return type(x).__name__
  return f"{x.dtype}{list(np.shape(x))}"


def _is_lost_empty(stored: StoredArray, target: Any) -> bool:
  """Return whether one zero was stored for an empty array, without a record."""
  is_empty = 0 in getattr(target, "shape", ())
  return (
    is_empty
    and not stored.replaced
    and stored.shape == (1,)
    and stored.dtype == str(target.dtype)
  )


def _read(
  path: Any,
  opened: ocp.Checkpointer,
  stored: StoredTree,
  targets: dict[Keys, Any],
) -> dict[Keys, Any]:
  reads = [_plan(k, stored.arrays[k], targets[k]) for k in stored.keys]
  treedef = jax.tree.structure(stored.metadata)
  args = jax.tree.unflatten(treedef, [read.args for read in reads])
  tree = opened.restore(path, args=ocp.args.PyTreeRestore(restore_args=args))
  return {
    keys: read.finish(x)
    for keys, read, x in zip(
      stored.keys, reads, jax.tree.leaves(tree), strict=True
    )
  }


def _plan(keys: Keys, stored: StoredArray, target: Any) -> _Read:
  on_host = ocp.RestoreArgs(restore_type=np.ndarray)
  if isinstance(target, int | float):
    return _Read(on_host, lambda x: _number(keys, x))
  if not hasattr(target, "dtype"):
    raise CheckpointContentError(
      f"leaf {'/'.join(keys)}: a {type(target).__name__} cannot be requested"
    )
  if stored.replaced or _is_lost_empty(stored, target):
    shape = stored.shape if stored.replaced else tuple(target.shape)
    dtype = _dtype(keys, stored)
    put = _putter(keys, stored, target)
    return _Read(on_host, lambda x: put(_undo_replacing(x, dtype, shape)))
  is_array = isinstance(target, np.ndarray | np.generic)
  if is_array or stored.generator or not fits_jax(target.dtype):
    return _Read(on_host, _putter(keys, stored, target))
  args = ocp.ArrayRestoreArgs(
    restore_type=jax.Array,
    sharding=getattr(target, "sharding", None) or _on_first_device(),
    global_shape=tuple(target.shape),
    dtype=target.dtype,
  )
  return _Read(args, lambda x: x)


def _number(keys: Keys, value: Any) -> Any:
  if np.size(value) != 1:
    raise CheckpointContentError(
      f"leaf {'/'.join(keys)} has {np.size(value)} elements, a number was "
      "expected"
    )
  return np.asarray(value).item()


def _undo_replacing(
  value: Any, dtype: np.dtype, shape: tuple[int, ...]
) -> np.ndarray:
  if 0 in shape:
    return np.empty(shape, dtype)
  return np.asarray(value).view(dtype)


def _putter(
  keys: Keys, stored: StoredArray, target: Any
) -> Callable[[Any], Any]:
  """Return a function that puts a host array where the target is."""
  if isinstance(target, np.ndarray | np.generic):
    return np.asarray
  if stored.generator:
    sharding = rng_keys.sharding_of_words(target, stored.generator)
    return lambda words: rng_keys.from_words(
      jax.device_put(words, sharding or _on_first_device()), stored.generator
    )
  sharding = getattr(target, "sharding", None)
  if fits_jax(target.dtype):
    return lambda x: jax.device_put(x, sharding or _on_first_device())
  if sharding is None:
    return np.asarray
  raise ArgumentError(
    f"leaf {'/'.join(keys)} is of {stored.dtype}, which JAX holds only with "
    "jax_enable_x64: request a NumPy array"
  )


def _on_first_device() -> jax.sharding.Sharding:
  return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
