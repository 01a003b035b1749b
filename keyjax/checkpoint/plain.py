"""Plain Orbax checkpoints of arrays: what was locked already, or is public.

A checkpoint is written into a temporary folder and renamed when it is whole,
so an interrupted or failed save is never taken for a checkpoint. Keys and
secrets are refused: they live in files of their own (`keys.save`).
"""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from keyjax.checkpoint.errors import (
  check_tree,
  content_error,
)
from keyjax.checkpoint.storage import folders
from keyjax.checkpoint.storage import locations as places
from keyjax.tree import path_str


def solid(tree: Any) -> Any:
  """Puts one zero in place of empty arrays, which Orbax does not write."""

  def fill(x: Any) -> Any:
    return jnp.zeros((1,), x.dtype) if _is_empty(x) else x

  return jax.tree.map(fill, tree)


def hollow(tree: Any, like: Any) -> Any:
  """Undoes `solid`."""

  def empty(x: Any, y: Any) -> Any:
    return jnp.zeros(y.shape, y.dtype) if _is_empty(y) else x

  return jax.tree.map(empty, tree, like)


def _is_empty(x: Any) -> bool:
  return 0 in getattr(x, "shape", ())


def _checkpointer(alone: bool) -> ocp.StandardCheckpointer:
  if not alone or jax.process_count() == 1:
    return ocp.StandardCheckpointer()
  this = jax.process_index()
  options = ocp.options.MultiprocessingOptions(
    primary_host=this,
    active_processes={this},
    barrier_sync_key_prefix=f"process-{this}",
  )
  return ocp.StandardCheckpointer(multiprocessing_options=options)


def save_plain(
  path: str | os.PathLike[str], tree: Any, *, alone: bool = False
) -> None:
  """Writes a tree of arrays to a new folder, atomically.

  Args:
    path: a folder that does not exist.
    tree: a pytree of arrays, such as encrypted params.
    alone: of several processes, this one saves alone, a tree of NumPy arrays;
      by default all of them save together.

  Raises:
    ValueError: the tree holds a key, no array, or something else than arrays.
    FileExistsError: `path` exists.
    CheckpointError: the disk is full, or the folder cannot be written.
  """
  check_tree(tree)
  place = places.location(path)
  folders.check_absent(place)
  with folders.writing(place), _checkpointer(alone) as checkpointer:
    checkpointer.save(place, solid(tree))


def restore_plain(
  path: str | os.PathLike[str], like: Any = None, *, alone: bool = False
) -> Any:
  """Reads a tree that `save_plain` wrote.

  Args:
    path: the checkpoint's folder.
    like: the tree's structure, shapes, dtypes and shardings: arrays or
      `jax.ShapeDtypeStruct`. None gives the tree as it was saved, on one
      device, with dicts in place of other nodes; an empty array of it is one
      zero then.
    alone: of several processes, this one reads alone, NumPy arrays.

  Raises:
    FileNotFoundError: there is no whole checkpoint at `path`.
    CheckpointError: it cannot be read, or is of another tree.
  """
  path = places.location(path)
  if not places.is_whole(path):
    raise FileNotFoundError(f"no checkpoint at {path}")
  try:
    with _checkpointer(alone) as checkpointer:
      stored = checkpointer.metadata(path).item_metadata
      like = _on_one_device(stored) if like is None else like
      check(stored, solid(like))
      tree = checkpointer.restore(path, abstract(solid(like)))
      return hollow(tree, like)
  except Exception as error:
    raise content_error(
      f"could not read the checkpoint {path}", error
    ) from None


def _on_one_device(stored: Any) -> Any:
  device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

  def spec(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device)

  return jax.tree.map(spec, stored.tree)


def check(stored: Any, like: Any) -> None:
  """Refuses another tree; Orbax would cast a leaf of another dtype."""
  have, want = _specs(stored), _specs(like)
  for path in sorted({*have, *want}):
    found, wanted = have.get(path, "absent"), want.get(path, "absent")
    if found != wanted and "" not in (found, wanted):
      raise ValueError(f"leaf {path} is {found} there, {wanted} was expected")


def _specs(tree: Any) -> dict[str, str]:
  """Returns `uint32[2, 3]` by path; empty for leaves that are no arrays."""

  def spec(x: Any) -> str:
    plain = hasattr(x, "shape") and isinstance(x.dtype, np.dtype)
    return f"{x.dtype}{list(x.shape)}" if plain else ""

  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {path_str(path): spec(x) for path, x in leaves}


def abstract(tree: Any) -> Any:
  """Returns the shapes, dtypes and shardings that Orbax reads into."""

  def spec(x: Any) -> Any:
    # Orbax writes NumPy scalars and does not read them.
    x = np.asarray(x) if isinstance(x, np.generic) else x
    return ocp.utils.to_shape_dtype_struct(x)

  return jax.tree.map(spec, tree)
