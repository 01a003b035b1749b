"""Files of records: array_record, read and written a group at a time."""

import errno
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from keyjax import extras
from keyjax.data.open_files import OpenFiles
from keyjax.data.reading import (
  TooManyFilesError,
  could_not_read,
  open_file,
  too_many,
)
from keyjax.errors import ContentError, StorageError

# Ciphertext does not shrink, and a group of one record is read alone.
_OPTIONS = "group_size:1,uncompressed"
_NAME = re.compile(r".*\.array_?record(-\d+-of-\d+)?")
_AT_ONCE = 128  # Records in memory.
_OPEN = OpenFiles()
_TOO_MANY = os.strerror(errno.EMFILE)


def is_record_file(name: str) -> bool:
  """Return whether a name is that of a file of records.

  Example:
    >>> is_record_file("mnist-train.array_record-00000-of-00001")
    True
    >>> is_record_file("features.json")
    False
  """
  return bool(_NAME.fullmatch(name))


class RecordFile:
  """The records of one file, at random access.

  Attributes:
    reader: What reads it. It is closed when too many files are open, and then
      opened again when it is used.
  """

  def __init__(self, path: pathlib.Path):
    """Open a file.

    Raises:
      KeyringError: If the package array_record is not installed.
      ContentError: If it is missing, or is not such a file.
      StorageError: If it cannot be read.
    """
    self._path = path
    self.reader: Any = None
    self._length: int | None = None
    self._length = int(self._opened().num_records())

  def _opened(self) -> Any:
    """Return the reader.

    Raises:
      ContentError: If the file is missing, is not one of records, or was
        replaced by one with another number of records.
      StorageError: If it cannot be read.
    """
    reader = self.reader  # Another thread may close it.
    if reader is not None:
      return reader
    try:
      return _OPEN.open(self, self._make)
    except TooManyFilesError:
      if not _OPEN.close():  # Other code has opened them.
        raise
      return _OPEN.open(self, self._make)

  def _make(self) -> Any:
    library = extras.library("array_record.python.array_record_module", "data")
    path = self._path
    try:
      with open_file(path):
        pass  # The library says nothing of a file that is not there.
      reader = library.ArrayRecordReader(os.fsencode(path))
      if not reader.ok():  # It would have no records, and say nothing.
        reader.close()
    except FileNotFoundError:
      raise ContentError(f"{path} is missing") from None
    except OSError as error:
      raise could_not_read(path, error) from None
    except RuntimeError as error:
      if _TOO_MANY in str(error):
        raise too_many(path) from None
      raise ContentError(f"{path} is damaged: {_reason(error)}") from None
    if self._length not in (None, int(reader.num_records())):
      raise ContentError(f"{path} has changed since it was opened")
    return reader

  def __len__(self) -> int:
    return self._length or 0

  def read(self, indices: Sequence[int]) -> list[bytes]:
    """Return records; those of a damaged file are refused.

    Raises:
      ContentError: If one of them cannot be read.
      StorageError: If the file was closed, and cannot be opened again.
    """
    try:
      return list(self._opened().read(list(indices))) if indices else []
    except RuntimeError as error:
      raise ContentError(_reason(error)) from None

  def read_named(self, indices: Sequence[int], name: str) -> list[bytes]:
    """Return records; an error names the first that cannot be read.

    Args:
      indices: Their indices.
      name: Name of the file in its set.

    Raises:
      ContentError: If one of them cannot be read.
    """
    try:
      return self.read(indices)
    except ContentError:  # One by one, to find out which.
      return [self._read_one(i, name) for i in indices]

  def _read_one(self, index: int, name: str) -> bytes:
    try:
      return self.read([index])[0]
    except ContentError as error:
      raise ContentError(
        f"record {index} of {name} cannot be read: {error}"
      ) from None

  def __iter__(self) -> Iterator[bytes]:
    for start in range(0, len(self), _AT_ONCE):
      stop = min(start + _AT_ONCE, len(self))
      try:
        yield from self.read(range(start, stop))
      except ContentError as error:
        raise ContentError(
          f"{self._path} is damaged in records {start} to {stop - 1}: {error}"
        ) from None

  def close(self) -> None:
    """Close the file."""
    reader, self.reader = self.reader, None
    if reader is not None:
      reader.close()


class RecordWriter:
  """A new file of records."""

  def __init__(self, path: pathlib.Path):
    """Create a file.

    Raises:
      KeyringError: If the package array_record is not installed.
    """
    library = extras.library("array_record.python.array_record_module", "data")
    self._path = path
    self._writer = library.ArrayRecordWriter(os.fsencode(path), _OPTIONS)

  def write(self, record: bytes) -> None:
    """Append a record.

    Raises:
      StorageError: If it cannot be written.
    """
    try:
      self._writer.write(record)
    except RuntimeError as error:
      raise self._failed(error) from None

  def close(self) -> None:
    """Write what is left.

    Raises:
      StorageError: If it cannot be written.
    """
    try:
      self._writer.close()
    except RuntimeError as error:
      raise self._failed(error) from None

  def _failed(self, error: RuntimeError) -> StorageError:
    return StorageError(f"could not write {self._path}: {_reason(error)}")


def _reason(error: RuntimeError) -> str:
  """Return the start of an error's text, which may go on with bytes."""
  return str(error).split(";")[0].split("\n")[0][:120]
