"""Files of a run: on a disk, or objects in a bucket (`gs://...`).

An object is written whole or not at all, so nothing is renamed there; it has
no mode and no lock, and cannot grow: what a disk appends to is written anew.
A folder of a bucket is there as soon as something lies in it.
"""

import pathlib
import tempfile

from keyjax import private_files
from keyjax.checkpoint import absolute_path, is_remote

# Of a bucket an `epath.Path`, which has the methods of a path.
AnyPath = pathlib.Path


def path(name: str) -> AnyPath:
  """Returns an absolute path, of a disk or a bucket."""
  return (
    absolute_path(name) if is_remote(name) else pathlib.Path(name).resolve()
  )


def write(path: AnyPath, text: str) -> None:
  """Writes a text file, whole or not at all."""
  if is_remote(path):
    path.write_text(text)
    return
  private_files.replace(path, text.encode("utf-8"), mode=0o666)


def append(path: AnyPath, line: str) -> None:
  """Adds a line to a text file; in a bucket by writing all of it again."""
  if is_remote(path):
    before = path.read_text() if path.exists() else ""
    path.write_text(before + line)
    return
  with path.open("a") as file:
    file.write(line)


def names(folder: AnyPath) -> list[str]:
  """Returns what lies in a folder, sorted; nothing when it is absent."""
  if not folder.exists():
    return []
  return sorted(p.name for p in folder.iterdir())


class Mirror:
  """A local folder, copied to where it belongs now and then.

  For what only writes to disks, and what grows line by line. The folder of a
  local place is that place, and nothing is copied.
  """

  def __init__(self, place: AnyPath) -> None:
    """Opens a folder for a place."""
    self._place, self._seen = place, dict[pathlib.Path, tuple[int, int]]()
    self._scratch: tempfile.TemporaryDirectory[str] | None = None
    if is_remote(place):
      self._scratch = tempfile.TemporaryDirectory(prefix="keyjax-")
      self.folder = pathlib.Path(self._scratch.name)
    else:
      self.folder = place

  def fetch(self, name: str) -> None:
    """Brings a file of the place, if it is there."""
    if self._scratch and (self._place / name).exists():
      (self.folder / name).write_bytes((self._place / name).read_bytes())

  def flush(self) -> None:
    """Copies all files that changed."""
    if not self._scratch:
      return
    for file in sorted(self.folder.rglob("*")):
      state = file.stat().st_mtime_ns, file.stat().st_size
      if file.is_file() and self._seen.get(file) != state:
        to = self._place / file.relative_to(self.folder).as_posix()
        to.write_bytes(file.read_bytes())
        self._seen[file] = state

  def close(self) -> None:
    """Copies, and removes the local folder."""
    if self._scratch:
      self.flush()
      self._scratch.cleanup()
