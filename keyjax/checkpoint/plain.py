"""Plain Orbax checkpoints of arrays that are locked already, or public.

A checkpoint is written to a temporary folder that is renamed once it is
complete, so an interrupted or failed save is never taken for a checkpoint.
Keys and secrets are refused: they belong in files of their own (`keys.save`).
"""

import os
from typing import Any

import orbax.checkpoint as ocp

from keyjax.checkpoint.check_tree import check_tree
from keyjax.checkpoint.errors import CheckpointError, read_error
from keyjax.checkpoint.storage import commit_mark, folders
from keyjax.checkpoint.storage.locations import (
  absolute_path,
  check_utf8,
  is_remote,
  is_remote_folder,
  is_whole,
  refuse_special_files,
)
from keyjax.checkpoint.weights.find_tree import find_tree
from keyjax.checkpoint.weights.orbax_restore import (
  process_options,
  restore_tree,
)
from keyjax.checkpoint.weights.orbax_trees import to_orbax
from keyjax.errors import ArgumentError


def _checkpointer(folder: Any, alone: bool) -> ocp.AsyncCheckpointer:
  options = process_options(alone)
  return ocp.AsyncCheckpointer(
    ocp.StandardCheckpointHandler(multiprocessing_options=options),
    multiprocessing_options=options,
    temporary_path_class=commit_mark.temporary_path_class(folder),
  )


def save_args(tree: Any) -> ocp.args.StandardSave:
  """Return the arguments with which Orbax saves a tree."""
  written, metadata = to_orbax(tree)
  return ocp.args.StandardSave(written, custom_metadata=metadata)


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
    ValueError: If the tree holds a key, no array, something other than
      arrays, or a key of a dict that is neither text nor a whole number.
    FileExistsError: If `path` exists.
    CheckpointStorageError: If the disk is full, or the folder cannot be
      written.
  """
  check_tree(tree)
  args = save_args(tree)
  folder = absolute_path(path)
  folders.check_absent(folder)
  with folders.writing(folder), _checkpointer(folder, alone) as checkpointer:
    checkpointer.save(folder, args=args)


def restore_plain(
  path: str | os.PathLike[str], like: Any = None, *, alone: bool = False
) -> Any:
  """Read a tree that `save_plain` wrote, or the only tree of a folder.

  Args:
    path: Folder of the checkpoint, of a CheckpointManager, or of one of its
      steps.
    like: Structure, shapes, dtypes and shardings of the tree: arrays or
      `jax.ShapeDtypeStruct`, on any mesh; without a sharding, one device.
      None gives the tree as it was saved, on one device, with dicts for nodes
      of other types. Arrays of 64 bits are NumPy arrays then, unless JAX has
      them (`jax_enable_x64`).
    alone: With several processes, read NumPy arrays in this process only.

  Raises:
    FileNotFoundError: If there is no complete checkpoint at `path`.
    CheckpointError: If it cannot be read, is sealed, or is of another tree.
    ArgumentError: If the folder holds several trees, or `like` requests an
      array that JAX does not have.
  """
  folder = absolute_path(path)
  if not (is_whole(folder) or is_remote_folder(folder)):
    raise FileNotFoundError(f"no checkpoint at {folder}")
  what = f"could not read the checkpoint {folder}"
  found = find_tree(folder)
  if not (is_remote(folder) or found.is_dir()):
    raise ArgumentError(f"{found} is a file: use read_weights")
  return read_plain(found, like, what=what, alone=alone)


def read_plain(path: Any, like: Any, *, what: str, alone: bool = False) -> Any:
  """Read the tree of a folder; `what` begins the message of an error."""
  check_utf8(path)
  try:
    refuse_special_files(path)
    return restore_tree(path, like, alone)
  except ArgumentError:
    raise
  except CheckpointError as error:
    raise type(error)(f"{what}: {error}") from None
  except Exception as error:
    raise read_error(what, error) from None
