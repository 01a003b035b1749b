"""Files that change whole or not at all, by one writer at a time."""

import contextlib
import fcntl
import os
import pathlib
import time
from collections.abc import Iterator

from keyjax.keyring.errors import KeyringError
from keyjax.keys import read_private, sync_folder, write_synced

_MARKERS = (
  "_CHECKPOINT_METADATA",
  "_METADATA",
  "_sharding",
  "commit_success.txt",
  "manifest.ocdbt",
)
_WAIT = 10.0


def refuse_checkpoint_folder(path: str | os.PathLike[str]) -> None:
  """Raises a KeyringError if a path lies inside a checkpoint.

  Folders of checkpoints are copied, published and kept in buckets; a key that
  lies in one goes with them. The folder and all above it are searched for the
  files that Orbax leaves.

  Example:
    >>> refuse_checkpoint_folder("/somewhere/else/key")
  """
  for folder in pathlib.Path(path).absolute().resolve().parents:
    for marker in _MARKERS:
      if (folder / marker).exists():
        raise KeyringError(
          f"{path} lies inside the checkpoint {folder}: keys are kept "
          "elsewhere, because checkpoints are copied and published"
        )


def replace_private(path: str | os.PathLike[str], data: bytes) -> None:
  """Replaces a file with mode 600; a kill leaves the old one or the new one.

  The new bytes reach the disk under another name, then take the file's place
  in one step, then the folder reaches the disk. The caller holds the lock.

  Args:
    path: what to replace; it need not exist.
    data: all of the new bytes.

  Raises:
    OSError: the disk is full or the folder is read-only; the old file stands.
  """
  path = pathlib.Path(path)
  part = path.with_name(f"{path.name}.part")
  part.unlink(missing_ok=True)  # What a killed writer left.
  try:
    write_synced(part, data)
    os.replace(part, path)
  except BaseException:
    part.unlink(missing_ok=True)
    raise
  sync_folder(path.parent)


@contextlib.contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
  """Holds the lock of a file, `PATH.lock`; the system frees it after a kill.

  Raises:
    KeyringError: another process held it for 10 seconds.
    OSError: the folder cannot be written to.
  """
  path = pathlib.Path(path)
  lock = path.with_name(f"{path.name}.lock")
  fd = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
  try:
    _acquire(fd, path)
    yield
  finally:
    os.close(fd)


def _acquire(fd: int, path: pathlib.Path) -> None:
  end = time.monotonic() + _WAIT
  while True:
    try:
      return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      if time.monotonic() > end:
        raise KeyringError(f"another process is changing {path}") from None
      time.sleep(0.05)


def read_limited(path: str | os.PathLike[str], size: int) -> bytes:
  """Reads a private file of at most `size` bytes.

  Raises:
    KeyringError: it does not exist or is larger.
    PermissionError: others than its owner can read it.
  """
  try:
    if pathlib.Path(path).stat().st_size > size:
      raise KeyringError(f"{path} is too large for what it should be")
    return read_private(path)
  except FileNotFoundError:
    raise KeyringError(f"{path} does not exist") from None
