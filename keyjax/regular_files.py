"""Paths that are none, and files that are pipes, devices or folders."""

import contextlib
import io
import os
import pathlib
import stat
from collections.abc import Iterator

from keyjax.errors import ArgumentError, ContentError


def given_path(path: str | os.PathLike[str]) -> pathlib.Path:
  """Return a path that was given; "" would be the current folder.

  Raises:
    ArgumentError: If it is empty.

  Example:
    >>> given_path("")
    Traceback (most recent call last):
      ...
    keyjax.errors.ArgumentError: the path is empty: name a file or a folder
  """
  if os.fspath(path) == "":
    raise ArgumentError("the path is empty: name a file or a folder")
  return pathlib.Path(path)


@contextlib.contextmanager
def open_file(
  path: str | os.PathLike[str],
) -> Iterator[tuple[io.BufferedReader, int]]:
  """Yield an open file and its size; a pipe or a device is refused at once.

  Raises:
    ContentError: If it is no file.
    OSError: If it cannot be opened.
  """
  # Without O_NONBLOCK, a pipe would be waited for.
  fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
  try:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
      raise ContentError(f"{path} is not a file")
    with os.fdopen(fd, "rb", closefd=False) as file:
      yield file, found.st_size
  finally:
    os.close(fd)
