"""Folders and files of data sets: whole or not at all, one writer at a time."""

import contextlib
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator

from keyjax import private_files
from keyjax.data import format as layout
from keyjax.errors import ContentError, StorageError

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
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(target)
    part, held = _locked_folder(target, mode)
  except OSError as error:
    raise _could_not_write(target, error) from None
  try:
    yield part
    private_files.sync_folder(part)
    try:
      part.rename(target)
    except OSError as error:  # Another process was first.
      raise _could_not_write(target, error) from None
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
  committed: dict[str, set[str]] = {}

  def commit(header: layout.Header, files: set[str]) -> None:
    committed[header.manifest] = files
    replace_header(path, header)

  try:
    before = layout.stored_names(path)
    try:
      yield commit
    finally:
      _remove_others(path, before, committed)
  finally:
    os.close(held)


@contextlib.contextmanager
def changing_tags(path: str | os.PathLike[str]) -> Iterator[None]:
  """Be the only one who reads, extends and replaces a file of tags.

  The lock is a file `.NAME.lock`, which is removed at the end; the system frees
  it after a kill. `keyjax data tag` holds it, too.

  Args:
    path: The file, which may be missing.

  Raises:
    ArgumentError: If its name is too long.
    StorageError: If another process is changing it, or its folder cannot be
      written to.

  Example:
    >>> import tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "faces.tags"
    >>> with changing_tags(path), changing_tags(path):
    ...   pass
    Traceback (most recent call last):
    ...
    keyjax.errors.StorageError: another process is changing \
.../faces.tags: nothing was written; try again
  """
  place = pathlib.Path(path)
  private_files.check_name_length(place)
  lock = place.with_name(f".{place.name}.lock")
  try:
    held = _locked_file(lock)
  except OSError as error:
    raise _could_not_write(place, error) from None
  if held is None:
    raise StorageError(
      f"another process is changing {path}: nothing was written; try again"
    )
  try:
    yield
  finally:
    with contextlib.suppress(OSError):
      lock.unlink()
    os.close(held)


def _locked_file(place: pathlib.Path) -> int | None:
  """Return the descriptor of a locked file; None if another holder has it."""
  while True:
    # Readable, because a killed process of another user may have left it; and
    # a pipe in its place is not waited for.
    flags = os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    fd = os.open(place, flags, 0o644)
    try:
      if not private_files.try_lock(fd):
        os.close(fd)
        return None
    except OSError:  # Some network file systems have no locks.
      return fd
    with contextlib.suppress(FileNotFoundError):
      if os.path.samestat(os.fstat(fd), place.stat()):
        return fd
    os.close(fd)  # Its last holder has removed it.


def _remove_others(
  path: pathlib.Path, before: set[str], committed: dict[str, set[str]]
) -> None:
  """Remove the stored files that the header on the disk does not lead to.

  An interrupt, or an error of the disk, may have come just after the header was
  replaced: only the header can tell. If it cannot be read, nothing is removed.

  Args:
    path: Folder of the set.
    before: Names of the stored files before the change.
    committed: Names of those of the new set, by the name of its manifest.
  """
  with contextlib.suppress(ContentError, OSError):
    manifest = layout.read_header(path).manifest
    for name in layout.stored_names(path) - committed.get(manifest, before):
      with contextlib.suppress(OSError):
        (path / name).unlink()


def replace_header(path: pathlib.Path, header: layout.Header) -> None:
  """Replace the header of a set, completely or not at all.

  Raises:
    StorageError: If it cannot be written; the old one is still there then, or
      the new one: see `private_files.replacing`.
  """
  try:
    data = layout.header_bytes(header)
    private_files.replace(path / layout.HEADER, data, mode=None)
  except OSError as error:
    raise _could_not_write(path, error) from None


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
    raise _could_not_write(path, error) from None


def _could_not_write(path: pathlib.Path, error: OSError) -> StorageError:
  return StorageError(f"could not write {path}: {error.strerror or error}")
