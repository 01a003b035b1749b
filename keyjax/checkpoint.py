"""Orbax checkpoints of params and of training states; nothing else knows Orbax.

A checkpoint is written into a temporary folder and renamed when it is whole,
so an interrupted or failed save is never taken for a checkpoint. Keys and
secrets are refused: they live in files of their own (`keys.save`).
"""

import os
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as policy

from keyjax import keys

_ITEM = "state"


class CheckpointError(OSError):
  """A checkpoint could not be written or read."""


def _refuse_keys(tree: Any) -> None:
  is_key = lambda x: isinstance(x, keys.Key | keys.Secret)  # noqa: E731
  if any(map(is_key, jax.tree.leaves(tree, is_leaf=is_key))):
    raise ValueError(
      "a checkpoint holds no keys: store them with keys.save or Secret.save, "
      "away from the checkpoint's folder"
    )


def save(path: str | os.PathLike[str], tree: Any) -> None:
  """Writes a tree of arrays to a new folder, atomically.

  Args:
    path: a folder that does not exist.
    tree: a pytree of arrays, such as encrypted params.

  Raises:
    ValueError: the tree holds a key.
    FileExistsError: `path` exists.
    CheckpointError: the disk is full, or the folder cannot be written.
  """
  _refuse_keys(tree)
  path = pathlib.Path(path).absolute()
  if path.exists():
    raise FileExistsError(f"{path} exists; a checkpoint is never overwritten")
  try:
    with ocp.StandardCheckpointer() as checkpointer:
      checkpointer.save(path, tree)
  except (OSError, ValueError, RuntimeError) as error:
    raise _flat(f"could not write a checkpoint to {path}", error) from None


def restore(path: str | os.PathLike[str], like: Any) -> Any:
  """Reads a tree that `save` wrote.

  Args:
    path: the checkpoint's folder.
    like: the tree's structure, shapes, dtypes and shardings: arrays or
      `jax.ShapeDtypeStruct`.

  Raises:
    FileNotFoundError: there is no whole checkpoint at `path`.
    CheckpointError: it cannot be read, or is of another tree.
  """
  path = pathlib.Path(path).absolute()
  if not path.exists():
    raise FileNotFoundError(f"no checkpoint at {path}")
  try:
    with ocp.StandardCheckpointer() as checkpointer:
      return checkpointer.restore(path, _abstract(like))
  except (OSError, ValueError, KeyError, RuntimeError) as error:
    raise _flat(f"could not read the checkpoint {path}", error) from None


def _abstract(tree: Any) -> Any:
  return jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)


def _flat(what: str, error: Exception) -> CheckpointError:
  # Orbax's texts may print values of arrays: the first line's start only.
  reason = str(error).strip().split("\n")[0][:160] or type(error).__name__
  return CheckpointError(f"{what}: {reason}")


class Manager:
  """Checkpoints of a training run: the last few, and the latest step.

  Saves are asynchronous; `close` (or leaving the `with` block) waits.

  Example:
    >>> import tempfile, jax.numpy as jnp
    >>> with Manager(tempfile.mkdtemp() + "/run", keep=2) as manager:
    ...   for step in (1, 2, 3):
    ...     manager.save(step, {"w": jnp.float32(step)})
    ...   manager.wait()
    ...   manager.latest(), float(manager.restore({"w": jnp.float32(0)})["w"])
    (3, 3.0)
  """

  def __init__(self, folder: str | os.PathLike[str], keep: int = 2):
    """Opens or makes a folder of checkpoints.

    Args:
      folder: where; made when absent.
      keep: how many checkpoints to keep.

    Raises:
      CheckpointError: the folder cannot be made or written.
    """
    options = ocp.CheckpointManagerOptions(
      preservation_policy=policy.LatestN(keep),
      cleanup_tmp_directories=True,
    )
    self._folder = pathlib.Path(folder).absolute()
    try:
      self._manager = ocp.CheckpointManager(
        self._folder, options=options, item_names=(_ITEM,)
      )
    except OSError as error:
      raise _flat(f"cannot use {self._folder}", error) from None

  def save(self, step: int, state: Any) -> None:
    """Saves a state under a step; returns before it is on disk.

    Raises:
      ValueError: the state holds a key.
      CheckpointError: this save, or the one before it, failed.
    """
    _refuse_keys(state)
    item = ocp.args.Composite(**{_ITEM: ocp.args.StandardSave(state)})
    try:
      self._manager.save(step, args=item)
    except (OSError, ValueError, RuntimeError) as error:
      raise _flat(f"could not save step {step}", error) from None

  def latest(self) -> int | None:
    """Returns the last whole checkpoint's step, or None."""
    return self._manager.latest_step()

  def restore(self, like: Any, step: int | None = None) -> Any:
    """Reads a state; the latest one by default.

    Raises:
      FileNotFoundError: there is no checkpoint.
      CheckpointError: it cannot be read, or is of another state.
    """
    step = self.latest() if step is None else step
    if step is None:
      raise FileNotFoundError(f"no checkpoint in {self._folder}")
    item = ocp.args.Composite(
      **{_ITEM: ocp.args.StandardRestore(_abstract(like))}
    )
    try:
      return self._manager.restore(step, args=item)[_ITEM]
    except (OSError, ValueError, KeyError, RuntimeError) as error:
      raise _flat(f"could not read step {step}", error) from None

  def wait(self) -> None:
    """Waits until all saves are on disk.

    Raises:
      CheckpointError: a save failed.
    """
    try:
      self._manager.wait_until_finished()
    except (OSError, ValueError, RuntimeError) as error:
      raise _flat("a save failed", error) from None

  def close(self) -> None:
    """Waits for all saves and lets the folder go."""
    self.wait()
    self._manager.close()

  def __enter__(self) -> "Manager":
    return self

  def __exit__(self, *_: Any) -> None:
    self.close()
