"""Files whose size is checked before they are read.

Whoever can write to a set's folder can put anything in the place of a file: one
that fills the memory, or one that never ends.
"""

import contextlib
import errno
import io
import os
import pathlib
from collections.abc import Iterator

from keyjax.errors import ContentError, StorageError
from keyjax.regular_files import open_file


class TooManyFilesError(StorageError):
  """This process may not open more files."""


def read_file(path: pathlib.Path, most: int | None = None) -> bytes:
  """Return the bytes of a file of a set.

  Args:
    path: The file.
    most: Number of bytes that it may have; None for any number.

  Raises:
    ContentError: If it is missing, has more bytes, or is no file.
    StorageError: If it cannot be read.
  """
  with opened_file(path) as (file, size):
    if most is None:
      return file.read()
    data = b"" if size > most else file.read(most + 1)
  size = max(size, len(data))  # It may grow meanwhile.
  if size > most:
    raise ContentError(
      f"{path} was changed: it has {size} bytes, and at most {most} are right"
    )
  return data


@contextlib.contextmanager
def opened_file(
  path: pathlib.Path,
) -> Iterator[tuple[io.BufferedReader, int]]:
  """Yield an open file of a set and its size; see `open_file`.

  Raises:
    ContentError: If it is missing, or is no file.
    StorageError: If it cannot be read.
  """
  try:
    with open_file(path) as found:
      yield found
  except FileNotFoundError:
    raise ContentError(f"{path} is missing") from None
  except OSError as error:
    raise could_not_read(path, error) from None


def could_not_read(
  path: str | os.PathLike[str], error: OSError
) -> StorageError:
  """Return the error for a file that the system does not read."""
  if error.errno in (errno.EMFILE, errno.ENFILE):
    return too_many(path)
  return StorageError(f"could not read {path}: {error.strerror or error}")


def too_many(path: str | os.PathLike[str]) -> TooManyFilesError:
  """Return the error for a file that is one too many."""
  return TooManyFilesError(
    f"could not read {path}: this process has too many open files; allow more "
    "with `ulimit -n`"
  )
