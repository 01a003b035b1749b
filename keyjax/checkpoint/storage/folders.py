"""Folders of checkpoints: checks before a write, cleanup after a failure."""

import contextlib
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

from keyjax import private_files
from keyjax.checkpoint.errors import (
  CheckpointError,
  CheckpointStorageError,
  storage_error,
)
from keyjax.checkpoint.storage import claims
from keyjax.checkpoint.storage.locations import (
  bucket_errors,
  check_utf8,
  is_remote,
  is_whole,
  refresh,
)

_ORBAX_TEMPORARY = ".orbax-checkpoint-tmp"
_TRIAL = ".try-"
# What a save writes into a checkpoint's folder.
_ORBAX_NAMES = re.compile(
  r"header|sealed|tiers|d|array_metadatas|manifest\.ocdbt|ocdbt\.process_\d+|"
  r"_(CHECKPOINT_METADATA|METADATA|sharding)"
)


def check_name(path: pathlib.Path) -> None:
  """Refuse names with which Orbax would lose what it wrote.

  Orbax searches for the parts of a checkpoint with a glob pattern that begins
  with the whole path, finds none, and reports success.

  Raises:
    CheckpointStorageError: If the path has such a character, or bytes that
      are not UTF-8, which TensorStore does not take.
  """
  check_utf8(path, "write")
  if found := next((c for c in "*?[" if c in str(path)), None):
    raise CheckpointStorageError(
      f"could not write {path}: to Orbax {found} in a name is a pattern"
    )


def check_absent(path: pathlib.Path) -> None:
  """Raise a FileExistsError if something is there."""
  check_name(path)
  if is_whole(path) if is_remote(path) else os.path.lexists(path):
    raise FileExistsError(f"{path} exists; a checkpoint is never overwritten")
  if is_remote(path) and not _is_abandoned(path):
    raise FileExistsError(f"{path} holds other objects; choose another name")


def _is_abandoned(path: Any) -> bool:
  """Return whether a bucket's folder is empty, or left by a failed save.

  Orbax removes everything in a folder without a mark before it writes.
  """
  with bucket_errors(path):
    names = [one.name for one in path.iterdir()] if path.exists() else []
  if "tiers" in names and "header" not in names:
    return False  # A save with tiers writes the header first.
  return all(map(_ORBAX_NAMES.fullmatch, names))


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[None]:
  """Hold a folder exclusively while it is written; clean up after a failure.

  Raises:
    FileExistsError: If it exists, or another process is writing it.
    CheckpointStorageError: If it cannot be written.
    CheckpointContentError: If what is copied into it is damaged.
  """
  what = f"could not write a checkpoint to {path}"
  try:
    with _exclusive(path):
      try:
        yield
      except BaseException:
        if not claims.is_lost(path):  # Else it may be another process's.
          remove_temporary(path.parent, path.name)
        raise
  except CheckpointError:
    raise
  except Exception as error:
    if isinstance(error, FileExistsError) and error.errno is None:
      raise  # Ours. The system's is about a file where a folder should be.
    raise storage_error(what, error) from None


@contextlib.contextmanager
def _exclusive(path: pathlib.Path) -> Iterator[None]:
  """Create a folder's parent, and exclude other writers of the folder.

  Orbax has one temporary folder for each name: what two runs write at the same
  time would be mixed there, and taken for a complete checkpoint.

  Raises:
    FileExistsError: If it exists, or another process is writing it.
    OSError: If the parent cannot be created or written.
  """
  check_writable(path.parent)
  if _process():  # The first process acts for the whole run.
    yield
    return
  if is_remote(path):
    with claims.holding(path):
      check_absent(path)
      remove_temporary(path.parent, path.name)
      yield
    return
  lock = path.with_name(f".{path.name}.lock")
  fd = os.open(lock, os.O_RDWR | os.O_CREAT, private_files.PRIVATE)
  try:
    _lock(fd, lock, path)
    try:
      check_absent(path)  # Another process may have written it meanwhile.
      yield
    finally:
      lock.unlink(missing_ok=True)
  finally:
    os.close(fd)


def _lock(fd: int, lock: pathlib.Path, path: pathlib.Path) -> None:
  busy = FileExistsError(f"another process is writing {path}")
  if not private_files.try_lock(fd):
    raise busy
  try:  # The previous holder may have removed the file.
    same = os.path.samestat(os.fstat(fd), lock.stat())
  except FileNotFoundError:
    same = False
  if not same:
    raise busy


def check_writable(folder: pathlib.Path) -> None:
  """Create a folder, and a temporary one inside it, as Orbax will.

  In a bucket, an object: Orbax's threads outlive an early error by minutes.
  """
  if is_remote(folder):
    _check_bucket_writable(folder)
    return
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except (FileExistsError, NotADirectoryError):
    every = (folder, *folder.parents)
    file = next((path for path in every if path.is_file()), folder)
    raise NotADirectoryError(f"{file} is a file, not a folder") from None
  trial = tempfile.mkdtemp(dir=folder, prefix=_TRIAL)
  with contextlib.suppress(FileNotFoundError):  # Another process removed it.
    os.rmdir(trial)


def _check_bucket_writable(folder: Any) -> None:
  refresh(folder)
  if _process() == 0:
    trial = folder / f"{_TRIAL}{os.urandom(8).hex()}"
    try:
      trial.write_text("")
    except FileNotFoundError:  # Its text is the URL of a request.
      raise FileNotFoundError("there is no such bucket") from None
    trial.unlink()


def temporary(path: pathlib.Path) -> pathlib.Path:
  """Return the folder beside a new one in which it is written."""
  return path.with_name(f"{path.name}{_ORBAX_TEMPORARY}")


def remove(path: Any) -> None:
  """Remove a folder of a disk or a bucket, as far as possible."""
  if not is_remote(path):
    shutil.rmtree(path, ignore_errors=True)
    return
  with contextlib.suppress(CheckpointError), bucket_errors(path):
    path.rmtree()


def remove_temporary(folder: pathlib.Path, name: str = "*") -> None:
  """Remove what failed saves left, which may fill the disk.

  In a bucket only for a given name: Orbax finds what a `Manager` left.
  """
  if is_remote(folder):
    if name != "*" and _process() == 0:
      _remove_objects(folder / name)
  elif _process() == 0:
    for left in folder.glob(f"{name}{_ORBAX_TEMPORARY}*"):
      shutil.rmtree(left, ignore_errors=True)
    for left in folder.glob(f"{_TRIAL}*"):  # From a process that was killed.
      with contextlib.suppress(OSError):
        left.rmdir()


def _remove_objects(path: Any) -> None:
  """Remove a checkpoint of a bucket that is not marked as complete."""
  with contextlib.suppress(CheckpointError):  # The first error says more.
    if is_whole(path) or not _is_abandoned(path):
      return
    with bucket_errors(path):
      if path.exists():
        path.rmtree()


def _process() -> int:
  import jax  # Not at the top: who only reads needs none of it.

  return jax.process_index()
