"""The header of a sealed checkpoint: the envelope, which is public.

PATH/header/metadata   JSON: format, version, envelope

A checkpoint with tiers (`keyjax.tiers`) has an index of its tiers there.
"""

import json
import os
import pathlib
from typing import Any

from keyjax import private_files
from keyjax.checkpoint.errors import (
  CheckpointContentError,
  CheckpointError,
  CheckpointStorageError,
  read_error,
)
from keyjax.checkpoint.storage import locations

FORMAT = "keyjax-sealed"
TIERS_FORMAT = "keyjax-tiers"
VERSION = 1
HEADER = "header"
HEADER_FILE = "metadata"
MAX_HEADER_BYTES = 1 << 25
_MAX_HEADER_ITEMS = 1 << 15  # Brackets and commas; an envelope has fewer.


def contents(envelope: bytes) -> dict[str, Any]:
  """Return the header, which is public."""
  return {
    "envelope": envelope.decode("ascii"),
    "format": FORMAT,
    "version": VERSION,
  }


def find(path: str | os.PathLike[str]) -> Any:
  """Return the absolute path of a complete checkpoint.

  Raises:
    FileNotFoundError: If there is none.
    CheckpointContentError: If it holds pipes or devices.
    CheckpointStorageError: If its bucket cannot be reached.
  """
  place = locations.absolute_path(path)
  if not locations.is_whole(place):
    raise FileNotFoundError(f"no checkpoint at {place}")
  locations.check_utf8(place)
  locations.refuse_special_files(place)
  return place


def read_json(path: Any, what: str) -> dict[str, Any]:
  """Return a header that anyone may have written; it has a format.

  Args:
    path: Folder of the checkpoint.
    what: What is wrong with it if it has none, for the error.

  Raises:
    CheckpointError: If it cannot be read, is too large, or is not JSON.
  """
  data = _read_header(path / HEADER / HEADER_FILE, what)
  if len(data) > MAX_HEADER_BYTES:
    raise CheckpointContentError(f"{what}: its header is too large")
  if sum(data.count(mark) for mark in (b"[", b"{", b",")) > _MAX_HEADER_ITEMS:
    raise CheckpointContentError(f"{what}: its header has too many parts")
  try:
    fields = json.loads(data)
  except (ValueError, RecursionError):
    raise CheckpointContentError(f"{what}: its header is not JSON") from None
  if not isinstance(fields, dict) or not isinstance(fields.get("format"), str):
    raise CheckpointContentError(what)
  return fields


def read(path: Any) -> bytes:
  """Return the envelope of a header that anyone may have written."""
  what = f"{path} is not a sealed checkpoint"
  fields = read_json(path, what)
  if fields["format"] == TIERS_FORMAT:
    raise CheckpointContentError(
      f"{path} is a checkpoint with tiers, each with an envelope of its own: "
      "see keyjax.tiers"
    )
  if fields["format"] != FORMAT:
    raise CheckpointContentError(what)
  version = fields.get("version")
  envelope = fields.get("envelope")
  if type(version) is not int or version != VERSION:
    raise CheckpointContentError(
      f"{path} is a sealed checkpoint of version {version!r:.20}: this "
      f"release of KeyJAX reads version {VERSION}"
    )
  other_fields = CheckpointContentError(f"{what}: its header has other fields")
  if set(fields) != set(contents(b"")) or not isinstance(envelope, str):
    raise other_fields
  try:
    return envelope.encode("ascii")
  except UnicodeEncodeError:
    raise other_fields from None


def _read_header(file: Any, what: str) -> bytes:
  try:
    with locations.bucket_errors(file):
      if not file.is_file():  # Opening a pipe would block forever.
        raise CheckpointContentError(what + _instead(file.parent.parent))
      with file.open("rb") as opened:
        return opened.read(MAX_HEADER_BYTES + 1)
  except CheckpointError:
    raise
  except OSError as error:
    raise read_error(f"could not read {file}", error) from None


def _instead(folder: Any) -> str:
  """Return what a folder without a header seems to be, for an error."""
  if (folder / "_METADATA").is_file():  # Orbax writes it.
    return ": it is a plain one, which restore_plain reads"
  names = [x.name for x in folder.iterdir()] if folder.is_dir() else []
  steps = sorted(int(x) for x in names if x.isascii() and x.isdecimal())
  return f": it holds steps, such as {steps[-1]}; name one" if steps else ""


def replace(path: pathlib.Path, envelope: bytes, *, before: bytes) -> None:
  """Replace the envelope of a checkpoint, completely or not at all.

  Args:
    path: Folder of the checkpoint.
    envelope: New envelope.
    before: Envelope that it replaces.

  Raises:
    CheckpointStorageError: If another process has replaced it, or is about to.
    OSError: If it cannot be written; the old one is still there then, or the
      new one: see `private_files.replacing`.
  """
  replace_json(path, contents(envelope), before=contents(before))


def replace_json(
  path: Any, fields: dict[str, Any], *, before: dict[str, Any]
) -> None:
  """Replace a header, completely or not at all; see `replace`."""
  data = json.dumps(fields).encode("ascii")
  if locations.is_remote(path):
    with locations.bucket_errors(path):
      replaced = _replace_object(path / HEADER, data, before)
  else:
    replaced = _replace_file(path / HEADER, data, before)
  if not replaced:
    raise CheckpointStorageError(
      f"another process is changing the recipients of {path}: nothing was "
      "written; try again"
    )


def _replace_file(folder: pathlib.Path, data: bytes, old: Any) -> bool:
  """Replace the header on a disk; return False if it is not the old one."""
  lock = private_files.lock_folder(folder)
  if lock is None:
    return False
  try:
    if json.loads((folder / HEADER_FILE).read_bytes()) != old:
      return False
    private_files.replace(folder / HEADER_FILE, data, mode=None)
    return True
  finally:
    os.close(lock)


def _replace_object(folder: Any, data: bytes, old: Any) -> bool:
  """Replace the header in a bucket; return False if it is not the old one."""
  objects = locations.key_value_store(folder)
  found = objects.read(HEADER_FILE).result()
  if json.loads(found.value) != old:
    return False
  generation = found.stamp.generation
  written = objects.write(HEADER_FILE, data, if_equal=generation).result()
  return bool(written.generation)  # Empty if another process was first.
