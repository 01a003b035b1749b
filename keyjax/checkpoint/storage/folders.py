"""Folders of checkpoints: absent before, tried, and cleared after a failure."""

import contextlib
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import jax

from keyjax import private_files
from keyjax.checkpoint.errors import (
  CheckpointError,
  CheckpointStorageError,
  storage_error,
)
from keyjax.checkpoint.storage.locations import (
  is_remote,
  is_whole,
  reaching,
  refresh,
)

_TEMPORARY = ".orbax-checkpoint-tmp"
_TRIAL = ".try-"
# What Orbax writes into a checkpoint's folder.
_ORBAX = re.compile(
  r"header|sealed|d|array_metadatas|manifest\.ocdbt|ocdbt\.process_\d+|"
  r"_(CHECKPOINT_METADATA|METADATA|sharding)"
)


def check_name(path: pathlib.Path) -> None:
  """Raises a CheckpointError for names below which Orbax loses what it wrote.

  It searches for the parts of a checkpoint with a pattern that begins with the
  whole path, finds none, and reports success.
  """
  if found := next((c for c in "*?[" if c in str(path)), None):
    raise CheckpointStorageError(
      f"could not write {path}: in a name {found} is a pattern to Orbax"
    )


def check_absent(path: pathlib.Path) -> None:
  """Raises a FileExistsError if something is there."""
  check_name(path)
  if is_whole(path) if is_remote(path) else os.path.lexists(path):
    raise FileExistsError(f"{path} exists; a checkpoint is never overwritten")
  if is_remote(path) and not _is_left(path):
    raise FileExistsError(f"{path} holds other objects; choose another name")


def _is_left(path: Any) -> bool:
  """Tells whether a folder of a bucket is empty, or what a failed save left.

  Orbax removes all that lies in a folder without a mark before it writes.
  """
  with reaching(path):
    names = [one.name for one in path.iterdir()] if path.exists() else []
  return all(map(_ORBAX.fullmatch, names))


@contextlib.contextmanager
def _alone(path: pathlib.Path) -> Iterator[None]:
  """Makes a folder's parent, and keeps other writers of the folder off.

  Orbax has one temporary folder for one name: what two runs write at a time
  would be mixed there, and taken for a whole checkpoint.

  Raises:
    FileExistsError: it is there, or another process is writing it.
    OSError: the parent cannot be made or written.
  """
  try_folder(path.parent)
  if jax.process_index():  # The first process stands for all of a run.
    yield
    return
  if is_remote(path):  # Which has no locks.
    check_absent(path)
    discard(path.parent, path.name)
    yield
    return
  lock = path.with_name(f".{path.name}.lock")
  fd = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
  try:
    _hold(fd, lock, path)
    try:
      check_absent(path)  # Another may have made it meanwhile.
      yield
    finally:
      lock.unlink(missing_ok=True)
  finally:
    os.close(fd)


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[None]:
  """Writes a folder alone, and clears what is left when that fails.

  Raises:
    FileExistsError: it is there, or another process is writing it.
    CheckpointError: anything else failed, or what is written anew is damaged.
  """
  what = f"could not write a checkpoint to {path}"
  try:
    with _alone(path):
      try:
        yield
      except BaseException:
        discard(path.parent, path.name)
        raise
  except CheckpointError:  # Of what is written anew.
    raise
  except Exception as error:
    if isinstance(error, FileExistsError) and error.errno is None:
      raise  # Ours; the system's is of a file in a folder's place.
    raise storage_error(what, error) from None


def _hold(fd: int, lock: pathlib.Path, path: pathlib.Path) -> None:
  busy = FileExistsError(f"another process is writing {path}")
  if not private_files.try_lock(fd):
    raise busy
  try:  # Whoever held it before removes it.
    same = os.path.samestat(os.fstat(fd), lock.stat())
  except FileNotFoundError:
    same = False
  if not same:
    raise busy


def try_folder(folder: pathlib.Path) -> None:
  """Makes a folder, and one inside it for a moment, as Orbax will.

  In a bucket, an object: Orbax's threads outlive an early error by minutes.
  """
  if is_remote(folder):
    _try_bucket(folder)
    return
  folder.mkdir(parents=True, exist_ok=True)
  trial = tempfile.mkdtemp(dir=folder, prefix=_TRIAL)
  with contextlib.suppress(FileNotFoundError):  # Another process cleared it.
    os.rmdir(trial)


def _try_bucket(folder: Any) -> None:
  refresh(folder)
  if jax.process_index() == 0:
    trial = folder / f"{_TRIAL}{os.urandom(8).hex()}"
    try:
      trial.write_text("")
    except FileNotFoundError:  # Its text is the address of a request.
      raise FileNotFoundError("there is no such bucket") from None
    trial.unlink()


def discard(folder: pathlib.Path, name: str = "*") -> None:
  """Removes what failed saves left; it may fill the disk.

  In a bucket that of one name alone: what a `Manager` left, Orbax finds.
  """
  if is_remote(folder):
    if name != "*" and jax.process_index() == 0:
      _discard_objects(folder / name)
  elif jax.process_index() == 0:
    for rest in folder.glob(f"{name}{_TEMPORARY}*"):
      shutil.rmtree(rest, ignore_errors=True)
    for rest in folder.glob(f"{_TRIAL}*"):  # Of a process that was killed.
      with contextlib.suppress(OSError):
        rest.rmdir()


def _discard_objects(path: Any) -> None:
  """Removes a checkpoint of a bucket that has no mark of being whole."""
  with contextlib.suppress(CheckpointError):  # The first error says more.
    if is_whole(path) or not _is_left(path):
      return
    with reaching(path):
      if path.exists():
        path.rmtree()
