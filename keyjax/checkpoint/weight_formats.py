"""Formats of weight files, and where they can be written."""

import os
from collections.abc import Mapping

from keyjax import arguments, regular_files
from keyjax.checkpoint.storage import folders, locations
from keyjax.checkpoint.weights import safetensors_reading
from keyjax.errors import ArgumentError

WEIGHT_FORMATS = ("orbax", "safetensors", "msgpack")
_SUFFIXES = {".safetensors": "safetensors", ".msgpack": "msgpack"}


def weight_format(
  path: str | os.PathLike[str], default: str | None = None
) -> str:
  """Return the format that the suffix of a path names.

  Args:
    path: File or folder; it need not exist.
    default: Format for any other suffix.

  Raises:
    ArgumentError: If the suffix names no format and there is no default.

  Example:
    >>> weight_format("model.safetensors"), weight_format("run", "orbax")
    ('safetensors', 'orbax')
  """
  path = regular_files.given_path(path)
  if path.name.endswith(safetensors_reading.INDEX_SUFFIX):
    return "safetensors"
  found = _SUFFIXES.get(path.suffix, default)
  if found is None:
    raise ArgumentError(
      f"{path} is neither an Orbax checkpoint, which is a folder, nor a file "
      f"that ends in {' or '.join(_SUFFIXES)}"
    )
  return found


def check_new(path: str | os.PathLike[str], kind: str = "orbax") -> None:
  """Raise unless weights of a format could be written to a new path.

  Raises:
    FileExistsError: If something is there.
    ValueError: If the format is a single file and `path` is in a bucket.
  """
  check_on_disk(path, kind)
  if locations.is_remote(path):
    folders.check_absent(locations.absolute_path(path))
  elif os.path.lexists(path):
    raise FileExistsError(f"{path} exists; it is not overwritten")


def check_on_disk(path: str | os.PathLike[str], kind: str) -> None:
  """Raise a ValueError for a single file in a bucket, or an empty path."""
  regular_files.given_path(path)
  if kind != "orbax" and locations.is_remote(path):
    raise ValueError(
      f"{path}: {kind} files are read and written only on disks; copy it, or "
      "choose a folder for Orbax"
    )


def checked_format(
  path: str | os.PathLike[str],
  kind: str | None,
  metadata: Mapping[str, str] | None,
  shard_bytes: int | None,
) -> str:
  """Return the format to write, checked against other arguments.

  Raises:
    ValueError: If they do not fit.
  """
  kind = kind or weight_format(path, "orbax")
  if kind not in WEIGHT_FORMATS:
    raise ValueError(
      f"format {arguments.show(kind)}: choose one of {WEIGHT_FORMATS}"
    )
  if kind != "safetensors" and not (metadata is None and shard_bytes is None):
    raise ValueError(f"{kind} has no metadata and no shards: use safetensors")
  return kind
