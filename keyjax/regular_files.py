"""Files that are files: no pipe, which may never end, no device, no folder."""

import contextlib
import io
import os
import stat
from collections.abc import Iterator

from keyjax.errors import ContentError


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
