"""Folders of checkpoints: absent before, tried, and cleared after a failure."""

import contextlib
import fcntl
import importlib.util
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import jax
from etils import epath

from keyjax.checkpoint.errors import CheckpointError, flat

_TEMPORARY = ".orbax-checkpoint-tmp"
_TRIAL = ".try-"
_BUCKETS = "gs://"
_COMMITTED = "commit_success.txt"  # Orbax's mark of a whole one in a bucket.


def is_remote(path: str | os.PathLike[str]) -> bool:
  """Tells whether a path is of a bucket, as `gs://bucket/run`.

  Example:
    >>> is_remote("gs://bucket/run"), is_remote("runs/a")
    (True, False)
  """
  return "://" in os.fspath(path)


def location(path: str | os.PathLike[str]) -> Any:
  """Returns an absolute path, of a disk or a bucket.

  Objects of a bucket are written whole or not at all, and Orbax marks a
  checkpoint there once it is whole; nobody keeps other writers off.

  Raises:
    ValueError: a bucket that is not of `gs://`, or nothing to reach it with.
  """
  if is_remote(path):
    if not os.fspath(path).startswith(_BUCKETS):
      raise ValueError(f"{path}: a bucket's name begins with {_BUCKETS}")
    if importlib.util.find_spec("gcsfs") is None:
      raise ValueError(f"{path} needs gcsfs: pip install gcsfs")
    return epath.Path(path)
  return pathlib.Path(path).absolute()


def check_local(path: str | os.PathLike[str]) -> None:
  """Raises a CheckpointError for a bucket, where nothing sealed is written."""
  if is_remote(path):
    raise CheckpointError(
      f"{path}: sealed checkpoints are written to disks alone, not to buckets; "
      "choose a local folder and copy it"
    )


def is_whole(path: str | os.PathLike[str]) -> bool:
  """Tells whether a checkpoint is there, whole."""
  place = location(path)
  if is_remote(path):
    return (place / _COMMITTED).exists()
  return place.exists()


def check_name(path: pathlib.Path) -> None:
  """Raises a CheckpointError for names below which Orbax loses what it wrote.

  It searches for the parts of a checkpoint with a pattern that begins with the
  whole path, finds none, and reports success.
  """
  if found := next((c for c in "*?[" if c in str(path)), None):
    raise CheckpointError(
      f"could not write {path}: in a name {found} is a pattern to Orbax"
    )


def check_absent(path: pathlib.Path) -> None:
  """Raises a FileExistsError if something is there."""
  check_name(path)
  if is_whole(path) if is_remote(path) else os.path.lexists(path):
    raise FileExistsError(f"{path} exists; a checkpoint is never overwritten")


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
  if is_remote(path):
    check_absent(path)
    discard(path.parent, path.name)
    yield
    return
  if jax.process_index():  # The first process stands for all of a run.
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
    raise flat(what, error) from None


def _hold(fd: int, lock: pathlib.Path, path: pathlib.Path) -> None:
  busy = FileExistsError(f"another process is writing {path}")
  try:
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    raise busy from None
  try:  # Whoever held it before removes it.
    same = os.path.samestat(os.fstat(fd), lock.stat())
  except FileNotFoundError:
    same = False
  if not same:
    raise busy


def hold(folder: pathlib.Path) -> int | None:
  """Locks a folder until what is returned is closed; a kill frees it too.

  Returns:
    A descriptor; None if another has the folder.
  """
  fd = os.open(folder, os.O_RDONLY)
  try:
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    os.close(fd)
    return None
  except OSError:  # Some network file systems lock no folders.
    pass
  return fd


def try_folder(folder: pathlib.Path) -> None:
  """Makes a folder, and one inside it for a moment, as Orbax will."""
  if is_remote(folder):  # Which has no folders to make.
    return
  folder.mkdir(parents=True, exist_ok=True)
  trial = tempfile.mkdtemp(dir=folder, prefix=_TRIAL)
  with contextlib.suppress(FileNotFoundError):  # Another process cleared it.
    os.rmdir(trial)


def discard(folder: pathlib.Path, name: str = "*") -> None:
  """Removes what failed saves left; it may fill the disk."""
  if is_remote(folder):
    _discard_objects(folder, name)
  elif jax.process_index() == 0:
    for rest in folder.glob(f"{name}{_TEMPORARY}*"):
      shutil.rmtree(rest, ignore_errors=True)
    for rest in folder.glob(f"{_TRIAL}*"):  # Of a process that was killed.
      with contextlib.suppress(OSError):
        rest.rmdir()


def _discard_objects(folder: Any, name: str) -> None:
  """Removes a checkpoint of a bucket that has no mark of being whole."""
  rest = folder / name
  if name != "*" and jax.process_index() == 0:
    if rest.exists() and not is_whole(rest):
      rest.rmtree()
