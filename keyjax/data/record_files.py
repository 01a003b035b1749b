"""Files of records: array_record, read and written a group at a time."""

import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from keyjax import extras
from keyjax.errors import ContentError, StorageError

# Ciphertext does not shrink, and a group of one record is read alone.
_OPTIONS = "group_size:1,uncompressed"
_NAME = re.compile(r".*\.array_?record(-\d+-of-\d+)?")
_AT_ONCE = 128  # Records in memory.


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
  """The records of one file, at random access."""

  def __init__(self, path: pathlib.Path):
    """Open a file.

    Raises:
      KeyringError: If the package array_record is not installed.
      ContentError: If it is missing, or is not such a file.
      StorageError: If it cannot be read.
    """
    self._path = path
    library = extras.library("array_record.python.array_record_module", "data")
    try:
      with path.open("rb"):
        pass  # The library says nothing of a file that is not there.
      self._reader: Any = library.ArrayRecordReader(str(path))
      if not self._reader.ok():  # It would have no records, and say nothing.
        self._reader.close()
      self._length = int(self._reader.num_records())
    except FileNotFoundError:
      raise ContentError(f"{path} is missing") from None
    except OSError as error:
      raise StorageError(f"could not read {path}: {error.strerror}") from None
    except RuntimeError as error:
      raise ContentError(f"{path} is damaged: {_reason(error)}") from None

  def __len__(self) -> int:
    return self._length

  def read(self, indices: Sequence[int]) -> list[bytes]:
    """Return records; those of a damaged file are refused.

    Raises:
      ContentError: If one of them cannot be read.
    """
    try:
      return list(self._reader.read(list(indices))) if indices else []
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
    for start in range(0, self._length, _AT_ONCE):
      stop = min(start + _AT_ONCE, self._length)
      try:
        yield from self.read(range(start, stop))
      except ContentError as error:
        raise ContentError(
          f"{self._path} is damaged in records {start} to {stop - 1}: {error}"
        ) from None

  def close(self) -> None:
    """Close the file."""
    self._reader.close()


class RecordWriter:
  """A new file of records."""

  def __init__(self, path: pathlib.Path):
    """Create a file.

    Raises:
      KeyringError: If the package array_record is not installed.
    """
    library = extras.library("array_record.python.array_record_module", "data")
    self._path = path
    self._writer = library.ArrayRecordWriter(str(path), _OPTIONS)

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
