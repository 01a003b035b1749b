"""What a sealed data set holds, and what is wrong with it."""

import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from keyjax.arguments import show
from keyjax.checkpoint.format import signature as signatures
from keyjax.checkpoint.verifying import Problem
from keyjax.data import format as layout
from keyjax.data.format import Entry
from keyjax.data.opened import SealedData, open_data
from keyjax.data.record_files import is_record_file
from keyjax.data.records import RecordReader, list_files
from keyjax.data.tagged import TaggedData, open_tagged
from keyjax.data.tags import RecordTags
from keyjax.errors import ContentError, StorageError
from keyjax.keyring import Identity, inspect_envelope
from keyjax.regular_files import given_path
from keyjax.secrets import Secret

_AT_ONCE = 128  # Records in memory.


def inspect_data(
  path: str | os.PathLike[str],
  identities: Identity | Iterable[Identity] | None = None,
) -> dict[str, Any]:
  """Return what can be read of a sealed data set; no record is read.

  Args:
    path: Folder of the set.
    identities: Keys; None for what anyone can read.

  Returns:
    `format`, `version`, `bytes` (as stored) and `envelope` (ids); none of this
    is authenticated. With keys also `name`, `revision`, `signed`, and `files`:
    name, bytes, and records (None for a file that is sealed as a whole).

  Raises:
    FileNotFoundError, KeyringError, ContentError: As `open_data`.
  """
  folder = given_path(path)
  header = layout.read_header(folder)
  public = {
    "format": layout.FORMAT,
    "version": layout.VERSION,
    "bytes": stored_size(folder),
    "envelope": inspect_envelope(header.envelope),
  }
  if identities is None:
    return public
  manifest = open_data(folder, identities).manifest
  return public | {
    "name": manifest.name,
    "revision": manifest.revision,
    "signed": all(entry.digest for entry in manifest.files),
    "files": [
      {"name": x.name, "bytes": x.size, "records": x.records}
      for x in manifest.files
    ],
  }


def stored_size(path: str | os.PathLike[str]) -> int:
  """Return the size in bytes of all files of a folder, or of a file."""
  place = pathlib.Path(path)
  if place.is_file():
    return place.stat().st_size
  return sum(x.stat().st_size for x in place.rglob("*") if x.is_file())


def verify_data(
  path: str | os.PathLike[str],
  identities: Identity | Iterable[Identity],
  *,
  name: str | None = None,
  verify_key: signatures.VerifyKey | None = None,
) -> list[Problem]:
  """Open every record and every file.

  Args:
    path: Folder of the set.
    identities: Keys, one of which opens it.
    name: Expected name of the set; None for any.
    verify_key: Public key whose signature is required; None to require none.

  Returns:
    Every defect, by the name of its file; empty if all is as it was sealed.

  Raises:
    FileNotFoundError, KeyringError, ContentError: As `open_data`.
  """
  opened = open_data(path, identities, name=name, verify_key=verify_key)
  return [x for entry in opened.manifest.files for x in _check(opened, entry)]


def _check(opened: SealedData, entry: Entry) -> Iterator[Problem]:
  try:
    if entry.records is None:
      opened.read(entry.name)
      return
    records = opened.record_file(entry)
  except (ContentError, StorageError) as error:
    yield Problem(entry.name, str(error))
    return
  yield from _check_records(records)


def verify_tagged(
  path: str | os.PathLike[str],
  tags: RecordTags,
  secret: Secret,
  *,
  name: str | None = None,
) -> list[Problem]:
  """Compare every record and every file with its tag.

  Args:
    path: What was tagged.
    tags: Its tags.
    secret: Secret that they were made with.
    name: Expected name of the set; None for any.

  Returns:
    Every defect, by the name of its file. Files without tags are defects, too:
    those who read by tags do not read them.

  Raises:
    FileNotFoundError: If there is nothing at `path`.
    ContentError: If the tags are of a set of another name.
  """
  if name is not None and tags.name != name:
    raise ContentError(
      f"these are tags of the set {show(tags.name)}, not of {show(name)}"
    )
  opened = open_tagged(path, tags, secret)
  found = [x for file in tags.files for x in _check_tagged(opened, file)]
  others = set(list_files(pathlib.Path(path))) - set(tags.files)
  return found + [Problem(x, f"{x} was not tagged") for x in sorted(others)]


def _check_tagged(opened: TaggedData, file: str) -> Iterator[Problem]:
  try:
    if not is_record_file(file):
      opened.read(file)
      return
    records = opened.record_file(file)
  except (ContentError, StorageError) as error:
    yield Problem(file, str(error))
    return
  yield from _check_records(records)


def _check_records(records: RecordReader) -> Iterator[Problem]:
  for start in range(0, len(records), _AT_ONCE):
    indices = range(start, min(start + _AT_ONCE, len(records)))
    try:
      records.read(indices)
    except ContentError:
      yield from _one_by_one(records, indices)


def _one_by_one(records: RecordReader, indices: range) -> Iterator[Problem]:
  for i in indices:
    try:
      records.read([i])
    except ContentError as error:
      yield Problem(records.name, str(error))
