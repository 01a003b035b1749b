"""Plain Orbax checkpoints of arrays that are locked already, or public.

A checkpoint is written to a temporary folder that is renamed once it is
complete, so an interrupted or failed save is never taken for a checkpoint.
Keys and secrets are refused: they belong in files of their own (`keys.save`).
"""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from keyjax.checkpoint.checks import check_tree
from keyjax.checkpoint.errors import read_error
from keyjax.checkpoint.storage import folders
from keyjax.checkpoint.storage.locations import absolute_path, is_whole
from keyjax.tree import path_str


def without_empty_arrays(tree: Any) -> Any:
  """Replace empty arrays, which Orbax does not write, by one zero each."""

  def fill(x: Any) -> Any:
    return jnp.zeros((1,), x.dtype) if _is_empty(x) else x

  return jax.tree.map(fill, tree)


def with_empty_arrays(tree: Any, like: Any) -> Any:
  """Undo `without_empty_arrays`."""

  def empty(x: Any, y: Any) -> Any:
    return jnp.zeros(y.shape, y.dtype) if _is_empty(y) else x

  return jax.tree.map(empty, tree, like)


def _is_empty(x: Any) -> bool:
  return 0 in getattr(x, "shape", ())


def _checkpointer(alone: bool) -> ocp.StandardCheckpointer:
  if not alone or jax.process_count() == 1:
    return ocp.StandardCheckpointer()
  process = jax.process_index()
  options = ocp.options.MultiprocessingOptions(
    primary_host=process,
    active_processes={process},
    barrier_sync_key_prefix=f"process-{process}",
  )
  return ocp.StandardCheckpointer(multiprocessing_options=options)


def save_plain(
  path: str | os.PathLike[str], tree: Any, *, alone: bool = False
) -> None:
  """Write a tree of arrays to a new folder, atomically.

  Args:
    path: New folder.
    tree: Pytree of arrays, such as encrypted params.
    alone: With several processes, save a tree of NumPy arrays from this
      process only; by default all of them save together.

  Raises:
    ValueError: If the tree holds a key, no array, or something other than
      arrays.
    FileExistsError: If `path` exists.
    CheckpointStorageError: If the disk is full, or the folder cannot be
      written.
  """
  check_tree(tree)
  folder = absolute_path(path)
  folders.check_absent(folder)
  with folders.writing(folder), _checkpointer(alone) as checkpointer:
    checkpointer.save(folder, without_empty_arrays(tree))


def restore_plain(
  path: str | os.PathLike[str], like: Any = None, *, alone: bool = False
) -> Any:
  """Read a tree that `save_plain` wrote.

  Args:
    path: Folder of the checkpoint.
    like: Structure, shapes, dtypes and shardings of the tree: arrays or
      `jax.ShapeDtypeStruct`. None gives the tree as it was saved, on one
      device, with dicts for nodes of other types; then each empty array
      becomes one zero.
    alone: With several processes, read NumPy arrays in this process only.

  Raises:
    FileNotFoundError: If there is no complete checkpoint at `path`.
    CheckpointError: If it cannot be read, or is of another tree.
  """
  path = absolute_path(path)
  if not is_whole(path):
    raise FileNotFoundError(f"no checkpoint at {path}")
  try:
    with _checkpointer(alone) as checkpointer:
      stored = checkpointer.metadata(path).item_metadata
      like = _on_one_device(stored) if like is None else like
      written = without_empty_arrays(like)
      check_same_tree(stored, written)
      tree = checkpointer.restore(path, restore_target(written))
      return with_empty_arrays(tree, like)
  except Exception as error:
    what = f"could not read the checkpoint {path}"
    raise read_error(what, error) from None


def _on_one_device(stored: Any) -> Any:
  device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

  def spec(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device)

  return jax.tree.map(spec, stored.tree)


def check_same_tree(stored: Any, like: Any) -> None:
  """Raise a ValueError for another tree.

  Without it Orbax would cast a leaf of another dtype.
  """
  have = _specs(stored)
  want = _specs(like)
  for path in sorted({*have, *want}):
    found = have.get(path, "absent")
    wanted = want.get(path, "absent")
    if found != wanted and "" not in (found, wanted):
      raise ValueError(f"leaf {path} is {found} there, {wanted} was expected")


def _specs(tree: Any) -> dict[str, str]:
  """Return `uint32[2, 3]` by path; empty for leaves that are not arrays."""

  def spec(x: Any) -> str:
    is_array = hasattr(x, "shape") and isinstance(x.dtype, np.dtype)
    return f"{x.dtype}{list(x.shape)}" if is_array else ""

  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {path_str(path): spec(x) for path, x in leaves}


def restore_target(tree: Any) -> Any:
  """Return the shapes, dtypes and shardings that Orbax restores to."""

  def spec(x: Any) -> Any:
    # Orbax writes NumPy scalars and does not read them.
    x = np.asarray(x) if isinstance(x, np.generic) else x
    return ocp.utils.to_shape_dtype_struct(x)

  return jax.tree.map(spec, tree)
