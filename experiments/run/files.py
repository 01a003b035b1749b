"""Files of a run: on a disk, or objects in a bucket (`gs://...`).

An object is written whole or not at all, so nothing is renamed in a bucket. It
has no mode and no lock and cannot grow: an append rewrites it. A folder of a
bucket exists as soon as it has an object.
"""

import pathlib
import tempfile

from keyjax import private_files
from keyjax.checkpoint import absolute_path, is_remote

# In a bucket an `epath.Path`, which has the methods of a path.
AnyPath = pathlib.Path


def path(name: str) -> AnyPath:
  """Return an absolute path on a disk or in a bucket."""
  return (
    absolute_path(name) if is_remote(name) else pathlib.Path(name).resolve()
  )


def write(path: AnyPath, text: str) -> None:
  """Write a text file atomically."""
  write_bytes(path, text.encode("utf-8"))


def write_bytes(path: AnyPath, content: bytes) -> None:
  """Write a file atomically."""
  if is_remote(path):
    path.write_bytes(content)
    return
  private_files.replace(path, content, mode=0o666)


def append(path: AnyPath, line: str) -> None:
  """Append a line to a text file; in a bucket, rewrite the file."""
  if is_remote(path):
    before = path.read_text() if path.exists() else ""
    path.write_text(before + line)
    return
  with path.open("a") as file:
    file.write(line)


def names(folder: AnyPath) -> list[str]:
  """Return the names in a folder, sorted; none if the folder is absent."""
  if not folder.exists():
    return []
  return sorted(p.name for p in folder.iterdir())


class Mirror:
  """A local folder that is copied to a bucket from time to time.

  For libraries that only write to disks, and for files that grow line by line.
  If the destination is on a disk, `folder` is the destination itself and
  nothing is copied.
  """

  def __init__(self, destination: AnyPath) -> None:
    """Create the local folder, if the destination is in a bucket."""
    self._destination = destination
    self._copied = dict[pathlib.Path, tuple[int, int]]()  # Time and size.
    self._scratch: tempfile.TemporaryDirectory[str] | None = None
    if is_remote(destination):
      self._scratch = tempfile.TemporaryDirectory(prefix="keyjax-")
      self.folder = pathlib.Path(self._scratch.name)
    else:
      self.folder = destination

  def fetch(self, name: str) -> None:
    """Copy a file of the destination to the local folder, if it exists."""
    if self._scratch and (self._destination / name).exists():
      content = (self._destination / name).read_bytes()
      (self.folder / name).write_bytes(content)

  def flush(self) -> None:
    """Copy all files that changed to the destination."""
    if not self._scratch:
      return
    for file in sorted(self.folder.rglob("*")):
      state = file.stat().st_mtime_ns, file.stat().st_size
      if file.is_file() and self._copied.get(file) != state:
        target = self._destination / file.relative_to(self.folder).as_posix()
        target.write_bytes(file.read_bytes())
        self._copied[file] = state

  def close(self) -> None:
    """Flush, and remove the local folder."""
    if self._scratch:
      self.flush()
      self._scratch.cleanup()
