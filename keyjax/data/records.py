"""Records of several files at random access, as Grain reads them."""

import bisect
import fnmatch
import itertools
import operator
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NoReturn, Protocol, SupportsIndex

from keyjax.data.format import is_name
from keyjax.errors import ArgumentError, StorageError
from keyjax.keyring.recipients import Private


class RecordReader(Protocol):
  """The records of one file; each is checked before it is returned."""

  name: str

  def __len__(self) -> int: ...

  def read(self, indices: Sequence[int]) -> list[bytes]:
    """Return records.

    Raises:
      ContentError: If one of them is refused; the message has its index.
    """


class Records(Private):
  """Records at random access: a data source for Grain.

  Each read opens only what it returns, whatever the order. Grain's threads can
  share it; its worker processes cannot have it, because it holds a key.
  """

  def __init__(self, files: Sequence[RecordReader]):
    """Join files; see `SealedData.records`."""
    self._files = files
    self._ends = list(itertools.accumulate(map(len, files)))

  def __repr__(self) -> str:
    return f"<Records of {len(self)} records>"

  def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
    raise TypeError(
      "Records are not pickled or copied, because they hold a key: let Grain "
      "read with threads, not with worker processes"
    )

  def __len__(self) -> int:
    return self._ends[-1]

  def __getitem__(self, index: SupportsIndex) -> bytes:
    """Return a record.

    Raises:
      IndexError: If there is none.
      ContentError: If it was changed, moved, repeated, or is of another set.
    """
    number, place = self._place(operator.index(index))
    return self._files[number].read([place])[0]

  def __getitems__(self, indices: Sequence[SupportsIndex]) -> list[bytes]:
    """Return records in the order of their indices; see `__getitem__`."""
    places = [self._place(operator.index(index)) for index in indices]
    found: list[bytes] = [b""] * len(places)
    by_file: dict[int, list[int]] = {}
    for i, (number, _) in enumerate(places):
      by_file.setdefault(number, []).append(i)
    for number, mine in sorted(by_file.items()):
      opened = self._files[number].read([places[i][1] for i in mine])
      for i, record in zip(mine, opened, strict=True):
        found[i] = record
    return found

  def _place(self, index: int) -> tuple[int, int]:
    """Return the number of a record's file, and its index there."""
    if not 0 <= index < len(self):
      raise IndexError(f"record {index} of {len(self)}")
    number = bisect.bisect_right(self._ends, index)
    return number, index - (self._ends[number - 1] if number else 0)


def matching(
  path: str | os.PathLike[str],
  files: Mapping[str, bool],
  pattern: str,
) -> list[str]:
  """Return the names of the files of records that match, in order.

  Args:
    path: Folder of the set, for the error.
    files: Whether a file has records, by its name.
    pattern: Pattern of the shell.

  Raises:
    ArgumentError: If none matches.
  """
  known = sorted(name for name, has_records in files.items() if has_records)
  found = [name for name in known if fnmatch.fnmatchcase(name, pattern)]
  if not found:
    raise ArgumentError(
      f"{path} has no file of records that matches {pattern!r}: it has "
      f"{some(known)}"
    )
  return found


def list_files(source: pathlib.Path) -> dict[str, pathlib.Path]:
  """Return the files of a folder by their names in it, or a file by its name.

  Raises:
    FileNotFoundError: If there is nothing at `source`.
    ArgumentError: If it holds no file, or something else than files.
    StorageError: If a folder cannot be read.
  """
  if not source.exists():
    raise FileNotFoundError(f"there is no file or folder {source}")
  if source.is_file():
    return {_name(source, source.parent): source}
  found = {}
  for path in sorted(_walk(source)):
    if not path.is_file():
      raise ArgumentError(f"{path} is neither a file nor a folder")
    found[_name(path, source)] = path
  if not found:
    raise ArgumentError(f"there is no file in {source}")
  return found


def _name(path: pathlib.Path, folder: pathlib.Path) -> str:
  """Return the name of a file in a set."""
  name = path.relative_to(folder).as_posix()
  if not is_name(name):
    raise ArgumentError(
      f"a file in {str(path.parent)!r} has an unprintable or very long "
      "name: rename it"
    )
  return name


def _walk(source: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yield all that is in a folder but its folders; `rglob` hides errors."""

  def refuse(error: OSError) -> NoReturn:
    raise StorageError(f"could not read {error.filename}: {error.strerror}")

  for folder, folders, names in os.walk(source, onerror=refuse):
    place = pathlib.Path(folder)
    yield from (place / name for name in names)
    yield from (place / x for x in folders if (place / x).is_symlink())


def some(names: Iterable[str]) -> str:
  """Return a few names, for an error."""
  found = list(names)
  more = f" and {len(found) - 4} more" if len(found) > 4 else ""
  return (", ".join(found[:4]) or "none") + more
