"""New and changed folders of sealed data sets, whole or not at all."""

import contextlib
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator

from keyjax import private_files
from keyjax.data import format as layout
from keyjax.errors import StorageError

Commit = Callable[[layout.Header, set[str]], None]


@contextlib.contextmanager
def new_folder(
  target: pathlib.Path, mode: int = 0o777
) -> Iterator[pathlib.Path]:
  """Yield a folder that takes its name when it is complete.

  A kill leaves a folder `.NAME.<random>.part`; the next set that is written to
  the same name removes it.

  Args:
    target: New folder.
    mode: Its permissions, limited by the umask.

  Raises:
    StorageError: If it cannot be written.
  """
  private_files.check_name_length(target)
  target.parent.mkdir(parents=True, exist_ok=True)
  _remove_abandoned(target)
  part, held = _locked_folder(target, mode)
  try:
    yield part
    private_files.sync_folder(part)
    try:
      part.rename(target)
    except OSError as error:  # Another process was first.
      raise StorageError(
        f"could not write {target}: {error.strerror}"
      ) from None
    private_files.sync_folder(target.parent)
  finally:
    shutil.rmtree(part, ignore_errors=True)
    os.close(held)


def _locked_folder(target: pathlib.Path, mode: int) -> tuple[pathlib.Path, int]:
  """Return a new folder next to another, and the descriptor of its lock."""
  while True:
    part = target.with_name(f".{target.name}.{os.urandom(8).hex()}.part")
    part.mkdir(mode)
    with contextlib.suppress(FileNotFoundError):  # Removed as an abandoned one.
      held = private_files.lock_folder(part)
      if held is not None and part.exists():
        return part, held


def _remove_abandoned(target: pathlib.Path) -> None:
  """Remove what killed processes left, and nothing that is in use."""
  pattern = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{16}}\.part")
  for name in filter(pattern.fullmatch, os.listdir(target.parent)):
    part = target.with_name(name)
    with contextlib.suppress(OSError):
      fd = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
      try:
        if private_files.try_lock(fd):
          shutil.rmtree(part, ignore_errors=True)
      finally:
        os.close(fd)


@contextlib.contextmanager
def changing_folder(path: pathlib.Path) -> Iterator[Commit]:
  """Yield a function that commits what was written to a set's folder.

  It takes the new header, and the names of the stored files that belong to the
  set from then on: the others are removed. Without a commit what was written
  is removed. What a kill left is removed by the next change.

  Raises:
    FileNotFoundError: If there is no set at `path`.
    StorageError: If another process is changing it.
  """
  layout.read_header(path)
  held = private_files.lock_folder(path)
  if held is None:
    raise StorageError(
      f"another process is changing {path}: nothing was written; try again"
    )
  kept = layout.stored_names(path)

  def commit(header: layout.Header, files: set[str]) -> None:
    nonlocal kept
    replace_header(path, header)
    kept = files

  try:
    yield commit
  finally:
    for name in layout.stored_names(path) - kept:
      with contextlib.suppress(OSError):
        (path / name).unlink()
    os.close(held)


def replace_header(path: pathlib.Path, header: layout.Header) -> None:
  """Replace the header of a set, completely or not at all.

  Raises:
    StorageError: If it cannot be written; the old one is still there then.
  """
  try:
    data = layout.header_bytes(header)
    private_files.replace(path / layout.HEADER, data, mode=None)
  except OSError as error:
    raise StorageError(f"could not write {path}: {error.strerror}") from None


def write_file(path: pathlib.Path, data: bytes) -> None:
  """Write a new file of a set.

  Raises:
    StorageError: If it cannot be written.
  """
  try:
    with path.open("xb") as file:
      file.write(data)
      private_files.sync_file(file)
  except OSError as error:
    raise StorageError(f"could not write {path}: {error.strerror}") from None
