"""What the library `model-signing` takes by path, given to it by path."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def secret_path(data: bytes) -> Iterator[str]:
  """Yield a path from which a short secret can be read once.

  It is the end of a pipe: the secret is on no disk.

  Args:
    data: Shorter than the buffer of a pipe, which has 4 KiB at least.

  Example:
    >>> with secret_path(b"key") as path:
    ...   pathlib.Path(path).read_bytes()
    b'key'
  """
  reader, writer = os.pipe()
  try:
    with open(writer, "wb") as file:
      file.write(data)
    yield f"/dev/fd/{reader}"
  finally:
    os.close(reader)


@contextlib.contextmanager
def public_paths(*contents: bytes) -> Iterator[list[pathlib.Path]]:
  """Yield paths of temporary files with these contents.

  Example:
    >>> with public_paths(b"a", b"b") as paths:
    ...   [path.read_bytes() for path in paths]
    [b'a', b'b']
  """
  with tempfile.TemporaryDirectory(prefix="keyjax-") as folder:
    paths = [pathlib.Path(folder, str(n)) for n in range(len(contents))]
    for path, data in zip(paths, contents, strict=True):
      path.write_bytes(data)
    yield paths
