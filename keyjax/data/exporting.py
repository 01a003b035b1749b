"""Writing a sealed data set unencrypted."""

import os
import pathlib
from collections.abc import Iterable

from keyjax.checkpoint.checks import as_identities
from keyjax.checkpoint.format.signature import VerifyKey
from keyjax.data.folders import new_folder, write_file
from keyjax.data.opened import SealedData, open_data
from keyjax.data.record_files import RecordWriter
from keyjax.errors import ArgumentError
from keyjax.keyring import Identity
from keyjax.regular_files import given_path

_AT_ONCE = 128  # Records in memory.


def export_data(
  path: str | os.PathLike[str],
  target: str | os.PathLike[str],
  identities: Identity | Iterable[Identity],
  *,
  name: str | None = None,
  verify_key: VerifyKey | None = None,
) -> int:
  """Open a sealed data set and write it unencrypted, whole or not at all.

  Files that were sealed as a whole become the same bytes; files of records have
  the same records in the same order. Only their owner can read the folder.

  Args:
    path: Folder of the set.
    target: New folder.
    identities: Keys, one of which opens the set.
    name: Expected name of the set; None for any.
    verify_key: Public key whose signature is required; None to require none.

  Returns:
    The number of files.

  Raises:
    FileExistsError: If something is at `target`.
    ArgumentError: If `target` is inside the set.
    FileNotFoundError, KeyringError, ContentError: As `open_data`; nothing is
      written if a record is refused.
    StorageError: If it cannot be written.
  """
  place = given_path(target)
  if place.exists() or place.is_symlink():
    raise FileExistsError(f"{place} exists")
  if place.resolve().is_relative_to(pathlib.Path(path).resolve()):
    raise ArgumentError(
      f"{place} is inside {path}, which may be copied and published"
    )
  opened = open_data(
    path, as_identities(identities), name=name, verify_key=verify_key
  )
  with new_folder(place, mode=0o700) as folder:
    for file in opened.files:
      (folder / file).parent.mkdir(parents=True, exist_ok=True)
      _write(opened, file, folder / file)
  return len(opened.files)


def _write(opened: SealedData, name: str, path: pathlib.Path) -> None:
  entry = opened.files[name]
  if entry.records is None:
    write_file(path, opened.read(name))
    return
  records = opened.record_file(entry)
  writer = RecordWriter(path)
  try:
    for start in range(0, len(records), _AT_ONCE):
      stop = min(start + _AT_ONCE, len(records))
      for record in records.read(range(start, stop)):
        writer.write(record)
  finally:
    writer.close()
