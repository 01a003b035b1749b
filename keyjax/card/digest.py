r"""The digest of the file or folder that a card is about.

The digest of a file is its SHA-256. The digest of a folder is the SHA-256 of
the output of `sha256sum` for its files, sorted by the bytes of their paths, so
that anyone can check it:

    cd DIR && find . -type f -printf '%P\0' | LC_ALL=C sort -z |
      xargs -0 sha256sum | sha256sum
"""

import hashlib
import os
import pathlib
from typing import Any

from keyjax.card.errors import CardError
from keyjax.regular_files import given_path

FILE = "SHA-256 of the file"
FOLDER = "SHA-256 of the lines of sha256sum, by path"


def digest(path: str | os.PathLike[str]) -> dict[str, Any]:
  """Return the digest and size of a model, as a card lists them.

  Args:
    path: File, or folder such as a checkpoint.

  Raises:
    CardError: If the folder is empty, or contains a link, something that is
      not a file, or a name that `sha256sum` would escape.
    OSError: If it cannot be read.

  Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   _ = pathlib.Path(folder, "w").write_bytes(b"weights")
    ...   found = digest(folder)
    >>> found["files"], found["bytes"], len(found["sha256"])
    (1, 7, 64)
  """
  path = given_path(path)
  if not path.is_dir():
    sha256, size = _file_digest(path)
    return {"order": FILE, "sha256": sha256, "files": 1, "bytes": size}
  files = _file_names(path)
  total = 0
  lines = hashlib.sha256()
  for name in files:
    sha256, size = _file_digest(path / os.fsdecode(name))
    lines.update(sha256.encode("ascii") + b"  " + name + b"\n")
    total += size
  return {
    "order": FOLDER,
    "sha256": lines.hexdigest(),
    "files": len(files),
    "bytes": total,
  }


def _file_names(folder: pathlib.Path) -> list[bytes]:
  """Return the sorted names of all files below a folder."""
  found = []
  for path in folder.rglob("*"):
    name = os.fsencode(path.relative_to(folder).as_posix())
    if path.is_symlink() or not (path.is_file() or path.is_dir()):
      raise CardError(
        f"{path} is not a regular file: a digest would not cover it"
      )
    if any(mark in name for mark in (b"\n", b"\r", b"\\")):
      raise CardError(f"{folder} holds a name with a backslash or line break")
    if path.is_file():
      found.append(name)
  if not found:
    raise CardError(f"{folder} holds no file")
  return sorted(found)


def _file_digest(path: pathlib.Path) -> tuple[str, int]:
  """Return the SHA-256 and the size of a file."""
  with path.open("rb") as file:
    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return sha256, file.tell()
