"""Where checkpoints lie: on a disk, or in a bucket (`gs://bucket/folder`).

A bucket has objects, which are written whole or not at all, and no folders,
locks or modes. `epath` and gcsfs list and read it, TensorStore reads ranges.
"""

import contextlib
import importlib.util
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from etils import epath
from etils.epath import backend

from keyjax.checkpoint.errors import CheckpointError, storage_error

_BUCKETS = "gs://"
_COMMITTED = "commit_success.txt"  # Orbax's mark of a whole one in a bucket.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
# `#`, `;`: Orbax takes a name for a URL and writes to what stands before them.
# `..`: it goes up; the bucket does not. The rest TensorStore refuses.
_BROKEN = re.compile(r"[#;\x00-\x1f\x7f]|(?<![^/])\.\.(?![^/])")


def is_remote(path: str | os.PathLike[str]) -> bool:
  """Tells whether a path is of a bucket, as `gs://bucket/run`.

  Example:
    >>> is_remote("gs://bucket/run"), is_remote("runs/a")
    (True, False)
  """
  return "://" in os.fspath(path)


def location(path: str | os.PathLike[str]) -> Any:
  """Returns an absolute path, of a disk or a bucket.

  Raises:
    ValueError: a bucket that is not of `gs://`, a name that does not work
      there, or nothing to reach it with.
  """
  if not is_remote(path):
    place = pathlib.Path(path).absolute()
    # TensorStore refuses `..`; what it means behind a link, the disk says.
    return place.resolve() if ".." in place.parts else place
  name = os.fspath(path)
  if not name.startswith(_BUCKETS):
    raise ValueError(f"{path}: a bucket's name begins with {_BUCKETS}")
  if importlib.util.find_spec("gcsfs") is None:
    raise ValueError(f"{path} needs gcsfs: pip install gcsfs")
  if found := _BROKEN.search(name):
    raise ValueError(f"{path!r}: {found[0]!r} does not work in a bucket")
  bucket, folder = _split(name)
  if not (_BUCKET.fullmatch(bucket) and folder):
    raise ValueError(f"{path}: name a bucket and a folder in it")
  return epath.Path(name)


def _split(path: str | os.PathLike[str]) -> tuple[str, str]:
  bucket, _, name = os.fspath(path).removeprefix(_BUCKETS).partition("/")
  return bucket, name.strip("/")


def kvstore(place: Any) -> dict[str, str]:
  """Returns what TensorStore calls a folder that `location` gave.

  Not a URL, where `%`, `?` and `#` mean something.
  """
  if is_remote(place):
    bucket, name = _split(place)
    return {"driver": "gcs", "bucket": bucket, "path": f"{name}/"}
  return {"driver": "file", "path": f"{place}/"}


@contextlib.contextmanager
def reaching(place: Any) -> Iterator[None]:
  """Makes one error of all that the libraries of a bucket raise.

  Raises:
    CheckpointError: no credentials, no permission, no network, no bucket.
  """
  try:
    yield
  except CheckpointError:
    raise
  except Exception as error:  # Of gcsfs, aiohttp and google.auth.
    if not is_remote(place):
      raise
    raise storage_error(f"could not reach {place}", error) from None


def refresh(place: Any) -> None:
  """Forgets what was listed of a bucket: others write there too."""
  if is_remote(place):
    _gcsfs(place).invalidate_cache()


def _gcsfs(place: Any) -> Any:
  return backend.fsspec_backend.fs(place)


def is_whole(path: str | os.PathLike[str]) -> bool:
  """Tells whether a checkpoint is there, whole.

  Raises:
    CheckpointError: a bucket cannot be reached.
  """
  place = location(path)
  if not is_remote(place):
    return place.exists()
  with reaching(place):
    refresh(place)
    return (place / _COMMITTED).exists()


def size(place: Any) -> int:
  """Returns how many bytes a file, or all of a folder, has.

  Raises:
    CheckpointError: a bucket cannot be reached.
  """
  if is_remote(place):
    with reaching(place):
      return _gcsfs(place).du(os.fspath(place))
  files = place.rglob("*") if place.is_dir() else [place]
  return sum(file.stat().st_size for file in files if file.is_file())
