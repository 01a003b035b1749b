"""Locations of checkpoints: on a disk or in a bucket (`gs://bucket/folder`).

A bucket has objects, which are written completely or not at all, and no
folders, locks or modes. `epath` and gcsfs list and read it; TensorStore reads
byte ranges.
"""

import contextlib
import datetime
import errno
import importlib.util
import io
import os
import pathlib
import re
import stat
from collections.abc import Iterator
from typing import Any

from keyjax import regular_files
from keyjax.checkpoint.errors import (
  CheckpointContentError,
  CheckpointError,
  CheckpointStorageError,
  storage_error,
)
from keyjax.checkpoint.format.origin import is_text
from keyjax.errors import ContentError

_SCHEME = "gs://"
_COMMITTED = "commit_success.txt"  # Orbax writes it last in a bucket.
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
# `#`, `;`: Orbax takes a name for a URL and writes to what precedes them.
# `..`: Orbax resolves it, the bucket does not. TensorStore refuses the rest.
_UNSUPPORTED = re.compile(r"[#;\x00-\x1f\x7f]|(?<![^/])\.\.(?![^/])")


def is_remote(path: str | os.PathLike[str]) -> bool:
  """Return whether a path is in a bucket, such as `gs://bucket/run`.

  Example:
    >>> is_remote("gs://bucket/run"), is_remote("runs/a")
    (True, False)
  """
  return "://" in os.fspath(path)


def absolute_path(path: str | os.PathLike[str]) -> Any:
  """Return an absolute path on a disk (pathlib) or in a bucket (epath).

  Raises:
    ValueError: If the path is empty, the scheme is not `gs://`, the name does
      not work in a bucket, or gcsfs is not installed.
  """
  if not is_remote(path):
    local = regular_files.given_path(path).absolute()
    # TensorStore refuses `..`; behind a link only the disk can resolve it.
    return local.resolve() if ".." in local.parts else local
  name = os.fspath(path)
  if not name.startswith(_SCHEME):
    raise ValueError(f"{path}: a bucket's name begins with {_SCHEME}")
  if importlib.util.find_spec("gcsfs") is None:
    raise ValueError(f"{path} needs gcsfs: pip install gcsfs")
  if found := _UNSUPPORTED.search(name):
    raise ValueError(f"{path!r}: {found[0]!r} does not work in a bucket")
  bucket, folder = _bucket_and_folder(name)
  if not (_BUCKET_NAME.fullmatch(bucket) and folder):
    raise ValueError(f"{path}: name a bucket and a folder in it")
  from etils import epath  # Not at the top: a disk needs none of it.

  return epath.Path(name)


def _bucket_and_folder(path: str | os.PathLike[str]) -> tuple[str, str]:
  bucket, _, name = os.fspath(path).removeprefix(_SCHEME).partition("/")
  return bucket, name.strip("/")


def tensorstore_spec(path: Any) -> dict[str, str]:
  """Return TensorStore's key-value store for a path from `absolute_path`.

  It is not a URL, in which `%`, `?` and `#` would have a meaning.
  """
  if is_remote(path):
    bucket, name = _bucket_and_folder(path)
    prefix = f"{name}/" if name else ""  # The bucket itself has no name.
    return {"driver": "gcs", "bucket": bucket, "path": prefix}
  return {"driver": "file", "path": f"{path}/"}


def key_value_store(path: Any) -> Any:
  """Open TensorStore's key-value store of a path."""
  import tensorstore as ts  # As in `absolute_path`.

  return ts.KvStore.open(tensorstore_spec(path)).result()


@contextlib.contextmanager
def bucket_errors(path: Any) -> Iterator[None]:
  """Convert whatever the libraries raise for a bucket to one error.

  Raises:
    CheckpointStorageError: For missing credentials or permission, and for a
      network or a bucket that cannot be reached.
  """
  try:
    yield
  except CheckpointError:
    raise
  except Exception as error:  # From gcsfs, aiohttp and google.auth.
    if not is_remote(path):
      raise
    raise storage_error(f"could not reach {path}", error) from None


def refresh(path: Any) -> None:
  """Discard cached listings of a bucket: others write to it too."""
  if is_remote(path):
    _gcsfs(path).invalidate_cache()


def _gcsfs(path: Any) -> Any:
  from etils.epath import backend  # As in `absolute_path`.

  return backend.fsspec_backend.fs(path)


def is_whole(path: str | os.PathLike[str]) -> bool:
  """Return whether a checkpoint is there, completely written.

  Raises:
    CheckpointStorageError: If a bucket cannot be reached.
  """
  place = absolute_path(path)
  if not is_remote(place):
    return place.exists()
  with bucket_errors(place):
    refresh(place)
    return (place / _COMMITTED).exists()


def is_remote_folder(path: Any) -> bool:
  """Return whether a bucket has a folder there, complete or not.

  Raises:
    CheckpointStorageError: If the bucket cannot be reached.
  """
  if not is_remote(path):
    return False
  with bucket_errors(path):
    return path.is_dir()


def written_at(path: Any) -> datetime.datetime:
  """Return when an object of a bucket was written, by the server's clock.

  Raises:
    FileNotFoundError: If there is none.
  """
  refresh(path)
  text = _gcsfs(path).info(os.fspath(path))["updated"]
  return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def create_object(folder: Any, name: str, data: bytes) -> bool:
  """Write an object of a bucket; return False if there is one."""
  objects = key_value_store(folder)
  found = objects.read(name).result()
  if found.state != "missing":
    return False
  made = objects.write(name, data, if_equal=found.stamp.generation).result()
  return bool(made.generation)


def size(path: Any) -> int:
  """Return the size in bytes of a file, or of all files of a folder.

  Raises:
    CheckpointStorageError: If a bucket cannot be reached.
  """
  if is_remote(path):
    with bucket_errors(path):
      return _gcsfs(path).du(os.fspath(path))
  files = path.rglob("*") if path.is_dir() else [path]
  return sum(file.stat().st_size for file in files if file.is_file())


def data_size(path: Any) -> int:
  """Return the size in bytes of a folder's files without their holes.

  A sparse file takes no disk and can have any size.

  Raises:
    CheckpointStorageError: If the bucket cannot be reached.
  """
  if is_remote(path):
    return size(path)
  files = [file for file in path.rglob("*") if file.is_file()]
  # Links to one file are one.
  once = {(x.stat().st_dev, x.stat().st_ino): x for x in files}
  return sum(map(_data_bytes, once.values()))


def _data_bytes(file: pathlib.Path) -> int:
  with file.open("rb", buffering=0) as opened:
    fd = opened.fileno()
    end = os.fstat(fd).st_size
    found = position = 0
    while position < end:
      try:
        start = os.lseek(fd, position, os.SEEK_DATA)
        position = os.lseek(fd, start, os.SEEK_HOLE)
      except OSError as error:
        # ENXIO: there is only a hole. Other file systems have no holes.
        return found if error.errno == errno.ENXIO else end
      found += position - start
  return found


def check_utf8(path: Any, what: str = "read") -> None:
  """Refuse the path of a folder that TensorStore does not take.

  Args:
    path: Path of the folder.
    what: What is to be done, for the error.

  Raises:
    CheckpointStorageError: If it has bytes that are not UTF-8.
  """
  if not is_text(os.fspath(path)):
    raise CheckpointStorageError(
      f"could not {what} {os.fspath(path)!r}: the name is not UTF-8"
    )


@contextlib.contextmanager
def opened_file(path: pathlib.Path) -> Iterator[tuple[io.BufferedReader, int]]:
  """Yield an open file of a disk and its size.

  Raises:
    CheckpointContentError: If it is a folder, a pipe or a device.
    OSError: If it cannot be opened.
  """
  with contextlib.ExitStack() as stack:
    try:
      found = stack.enter_context(regular_files.open_file(path))
    except ContentError as error:
      raise CheckpointContentError(str(error)) from None
    yield found


def refuse_special_files(path: Any) -> None:
  """Refuse a checkpoint with pipes or devices, whose reader blocks forever.

  Raises:
    CheckpointContentError: If something in the folder is neither a file nor a
      folder.
  """
  if is_remote(path):
    return
  seen = set()
  # TensorStore follows links to folders too.
  for folder, folders, files in os.walk(path, followlinks=True):
    for name in (*folders, *files):
      try:
        found = os.stat(os.path.join(folder, name))
      except FileNotFoundError:  # Removed meanwhile, or a link to nothing.
        continue
      except OSError as error:
        raise storage_error(f"could not read {path}", error) from None
      mode = found.st_mode
      if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise CheckpointContentError(
          f"{path}: {name} is neither a file nor a folder"
        )
      if stat.S_ISDIR(mode) and (found.st_dev, found.st_ino) in seen:
        folders.remove(name)  # A link that leads back.
      seen.add((found.st_dev, found.st_ino))
