r"""The digest of the file or folder that a card speaks of.

Of a file its SHA-256. Of a folder the SHA-256 of what `sha256sum` prints of
its files in the order of their paths' bytes, so that anybody can check it:

    cd DIR && find . -type f -printf '%P\0' | LC_ALL=C sort -z |
      xargs -0 sha256sum | sha256sum
"""

import hashlib
import os
import pathlib
from typing import Any

from keyjax.card.errors import CardError

FILE = "SHA-256 of the file"
FOLDER = "SHA-256 of the lines of sha256sum, by path"


def digest(path: str | os.PathLike[str]) -> dict[str, Any]:
  """Returns what a card says of a model's bytes.

  Args:
    path: a file, or a folder such as a checkpoint.

  Raises:
    CardError: the folder is empty, or holds a link, something that is no file,
      or a name that `sha256sum` would escape.
    OSError: it cannot be read.

  Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   _ = pathlib.Path(folder, "w").write_bytes(b"weights")
    ...   found = digest(folder)
    >>> found["files"], found["bytes"], len(found["sha256"])
    (1, 7, 64)
  """
  place = pathlib.Path(path)
  if not place.is_dir():
    whole, size = _of_file(place)
    return {"order": FILE, "sha256": whole, "files": 1, "bytes": size}
  total, files = 0, _files(place)
  lines = hashlib.sha256()
  for name in files:
    one, size = _of_file(place / os.fsdecode(name))
    lines.update(one.encode("ascii") + b"  " + name + b"\n")
    total += size
  return {
    "order": FOLDER,
    "sha256": lines.hexdigest(),
    "files": len(files),
    "bytes": total,
  }


def _files(folder: pathlib.Path) -> list[bytes]:
  found = []
  for path in folder.rglob("*"):
    name = os.fsencode(path.relative_to(folder).as_posix())
    if path.is_symlink() or not (path.is_file() or path.is_dir()):
      raise CardError(f"{path} is no plain file: a digest would not cover it")
    if any(mark in name for mark in (b"\n", b"\r", b"\\")):
      raise CardError(f"{folder} holds a name with a backslash or a line's end")
    if path.is_file():
      found.append(name)
  if not found:
    raise CardError(f"{folder} holds no file")
  return sorted(found)


def _of_file(path: pathlib.Path) -> tuple[str, int]:
  with path.open("rb") as file:
    made = hashlib.file_digest(file, "sha256")
    return made.hexdigest(), file.tell()
