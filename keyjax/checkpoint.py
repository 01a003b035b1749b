"""Orbax checkpoints of params and of training states; nothing else knows Orbax.

A checkpoint is written into a temporary folder and renamed when it is whole,
so an interrupted or failed save is never taken for a checkpoint. Keys and
secrets are refused: they live in files of their own (`keys.save`).
"""

import os
import pathlib
import re
import shutil
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as policy

from keyjax import keys
from keyjax.tree import path_str

_ITEM = "state"
_TEMPORARY = ".orbax-checkpoint-tmp"


class CheckpointError(OSError):
  """A checkpoint could not be written or read."""


def _refuse(tree: Any) -> None:
  """Raises before Orbax does: its threads outlive an early error by minutes."""
  is_key = lambda x: isinstance(x, keys.Key | keys.Secret)  # noqa: E731
  if any(map(is_key, jax.tree.leaves(tree, is_leaf=is_key))):
    raise ValueError(
      "a checkpoint holds no keys: store them with keys.save or Secret.save, "
      "away from the checkpoint's folder"
    )
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  if not leaves:
    raise ValueError(
      "a checkpoint holds at least one array; this tree is empty"
    )
  for path, x in leaves:
    if not isinstance(x, jax.Array | np.ndarray | np.generic | int | float):
      raise ValueError(
        f"a checkpoint holds arrays; leaf {path_str(path)} is of type "
        f"{type(x).__name__}"
      )


def _try_folder(folder: pathlib.Path) -> None:
  """Makes a folder, and one inside it for a moment, as Orbax will."""
  folder.mkdir(parents=True, exist_ok=True)
  os.rmdir(tempfile.mkdtemp(dir=folder))


def _discard(folder: pathlib.Path, name: str = "*") -> None:
  """Removes what failed saves left; it may fill the disk."""
  if jax.process_index() == 0:
    for rest in folder.glob(f"{name}{_TEMPORARY}*"):
      shutil.rmtree(rest, ignore_errors=True)


def _solid(tree: Any) -> Any:
  """Puts one zero in place of empty arrays, which Orbax does not write."""

  def solid(x: Any) -> Any:
    return jnp.zeros((1,), x.dtype) if _is_empty(x) else x

  return jax.tree.map(solid, tree)


def _hollow(tree: Any, like: Any) -> Any:
  """Undoes `_solid`."""

  def hollow(x: Any, y: Any) -> Any:
    return jnp.zeros(y.shape, y.dtype) if _is_empty(y) else x

  return jax.tree.map(hollow, tree, like)


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


def save(
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
  _refuse(tree)
  path = pathlib.Path(path).absolute()
  if path.exists():
    raise FileExistsError(f"{path} exists; a checkpoint is never overwritten")
  try:
    _try_folder(path.parent)
    with _checkpointer(alone) as checkpointer:
      checkpointer.save(path, _solid(tree))
  except Exception as error:
    _discard(path.parent, path.name)
    raise _flat(f"could not write a checkpoint to {path}", error) from None


def restore(
  path: str | os.PathLike[str], like: Any, *, alone: bool = False
) -> Any:
  """Reads a tree that `save` wrote.

  Args:
    path: the checkpoint's folder.
    like: the tree's structure, shapes, dtypes and shardings: arrays or
      `jax.ShapeDtypeStruct`.
    alone: of several processes, this one reads alone, NumPy arrays.

  Raises:
    FileNotFoundError: there is no whole checkpoint at `path`.
    CheckpointError: it cannot be read, or is of another tree.
  """
  path = pathlib.Path(path).absolute()
  if not path.exists():
    raise FileNotFoundError(f"no checkpoint at {path}")
  try:
    with _checkpointer(alone) as checkpointer:
      _check(checkpointer.metadata(path).item_metadata, _solid(like))
      tree = checkpointer.restore(path, _abstract(_solid(like)))
      return _hollow(tree, like)
  except Exception as error:
    raise _flat(f"could not read the checkpoint {path}", error) from None


def _check(stored: Any, like: Any) -> None:
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


def _abstract(tree: Any) -> Any:
  def abstract(x: Any) -> Any:
    # Orbax writes NumPy scalars and does not read them.
    x = np.asarray(x) if isinstance(x, np.generic) else x
    return ocp.utils.to_shape_dtype_struct(x)

  return jax.tree.map(abstract, tree)


def _flat(what: str, error: Exception) -> CheckpointError:
  # Orbax wraps some errors in a bare Exception with pages of text.
  error = (error.__cause__ or error) if type(error) is Exception else error  # type: ignore[assignment]
  # Its texts may print values of arrays: the first line's start only.
  text = str(error).strip()
  system = re.search(r"([^:\[\]]+) \[os_error_code=", text)
  reason = system[1].strip() if system else text.split("\n")[0][:160]
  return CheckpointError(f"{what}: {reason or type(error).__name__}")


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
      preservation_policy=policy.LatestN(keep)
    )
    self._folder = pathlib.Path(folder).absolute()
    self._closed = False
    try:
      _try_folder(self._folder)
      _discard(self._folder)
      self._manager = ocp.CheckpointManager(
        self._folder,
        options=options,
        item_handlers={_ITEM: ocp.StandardCheckpointHandler()},
      )
    except OSError as error:
      raise _flat(f"cannot use {self._folder}", error) from None

  def save(self, step: int, state: Any) -> None:
    """Saves a state under a step; returns before it is on disk.

    Raises:
      ValueError: the state is not one of arrays alone, the step is not after
        the last one, or the manager is closed.
      CheckpointError: this save, or the one before it, failed.
    """
    _refuse(state)
    if self._closed:
      raise ValueError("this Manager is closed")
    item = ocp.args.Composite(**{_ITEM: ocp.args.StandardSave(_solid(state))})
    try:
      _try_folder(self._folder)
      saved = self._manager.save(step, args=item)
    except Exception as error:
      _discard(self._folder)
      raise _flat(f"could not save step {step}", error) from None
    if not saved:
      raise ValueError(f"step {step} is not after step {self.latest()}")

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
    if step is None or step not in self._manager.all_steps():
      what = "checkpoint" if step is None else f"step {step}"
      raise FileNotFoundError(f"no {what} in {self._folder}")
    item = ocp.args.Composite(
      **{_ITEM: ocp.args.StandardRestore(_abstract(_solid(like)))}
    )
    try:
      _check(self._manager.item_metadata(step)[_ITEM], _solid(like))
      return _hollow(self._manager.restore(step, args=item)[_ITEM], like)
    except Exception as error:
      raise _flat(f"could not read step {step}", error) from None

  def wait(self) -> None:
    """Waits until all saves are on disk.

    Raises:
      CheckpointError: a save failed.
    """
    try:
      self._manager.wait_until_finished()
    except Exception as error:
      _discard(self._folder)
      raise _flat("a save failed", error) from None

  def close(self) -> None:
    """Waits for all saves and lets the folder go.

    Raises:
      CheckpointError: a save failed.
    """
    try:
      self.wait()
    finally:
      self._closed = True
      self._manager.close()

  def __enter__(self) -> "Manager":
    return self

  def __exit__(self, *_: Any) -> None:
    self.close()
