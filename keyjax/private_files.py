"""Private files that change completely or not at all, and their locks.

New bytes are written to another name in the same folder, reach the disk, and
then take the file's name in one step: a kill or a full disk at any moment
leaves the old file, or the new one, never a part. By default files have mode
600 and are refused when others can read them.
"""

import codecs
import contextlib
import fcntl
import io
import os
import pathlib
import re
import stat
import time
from collections.abc import Iterator
from typing import BinaryIO

from keyjax.errors import ArgumentError, KeyringError

PRIVATE = 0o600
_CHECKPOINT_MARKERS = (
  "_CHECKPOINT_METADATA",
  "_METADATA",
  "_sharding",
  "commit_success.txt",
  "keyjax-data.json",
  "manifest.ocdbt",
)
_LOCK_TIMEOUT = 10.0
# File systems allow 255; `.NAME.0123456789abcdef.part` must fit.
_MAX_NAME_BYTES = 255 - 23


def refuse_checkpoint_folder(path: str | os.PathLike[str]) -> None:
  """Raise a KeyringError if a path is inside a checkpoint.

  Checkpoint folders are copied, published and uploaded to buckets, and a key
  stored in one would be copied with them. The folder and all its parents are
  searched for the files that Orbax writes, and for those of sealed data sets.

  Example:
    >>> refuse_checkpoint_folder("/somewhere/else/key")
  """
  for folder in pathlib.Path(path).absolute().resolve().parents:
    for marker in _CHECKPOINT_MARKERS:
      if (folder / marker).exists():
        raise KeyringError(
          f"{path} is inside the checkpoint {folder}: store keys elsewhere, "
          "because checkpoints are copied and published"
        )


def create(
  path: str | os.PathLike[str], data: bytes, what: str = "file"
) -> None:
  """Write a new file that only its owner can read.

  Args:
    path: New file. Missing parent folders are created with mode 700.
    data: Content of the file.
    what: Kind of file, for the error message.

  Raises:
    FileExistsError: If `path` exists.
    ArgumentError: If its name is too long.
    OSError: If the file cannot be written; nothing is left then.

  Example:
    >>> import tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "new"
    >>> create(path, b"data")
    >>> read(path)
    b'data'
  """
  with creating(path, what) as (_, file):
    file.write(data)


@contextlib.contextmanager
def creating(
  path: str | os.PathLike[str], what: str = "file"
) -> Iterator[tuple[pathlib.Path, BinaryIO]]:
  """Yield a file, and its name, that becomes a new file when it is complete.

  What a killed writer of the same file left, perhaps weights, is removed.

  Args:
    path: New file. Missing parent folders are created with mode 700.
    what: Kind of file, for the error message.

  Raises:
    FileExistsError: If `path` exists.
    ArgumentError: If its name is too long.
    OSError: If the file cannot be written; nothing is left then.
  """
  path = pathlib.Path(path)
  check_name_length(path)
  path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
  exists = FileExistsError(f"{path} exists; a {what} is never overwritten")
  if os.path.lexists(path):
    raise exists
  with _new_part(path, PRIVATE) as (part, file):
    yield part, file
    sync_file(file)
    try:
      os.link(part, path)  # Unlike a rename, never over another file.
    except FileExistsError:  # The system's names the part.
      raise exists from None
  with contextlib.suppress(OSError):  # The folder may not be listed.
    _remove_abandoned_parts(path)
  sync_folder(path.parent)


def replace(
  path: str | os.PathLike[str], data: bytes, mode: int | None = PRIVATE
) -> None:
  """Replace a file, or create it; see `replacing`.

  Example:
    >>> import tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "file"
    >>> replace(path, b"old")
    >>> replace(path, b"new")
    >>> read(path)
    b'new'
  """
  with replacing(path, mode) as file:
    file.write(data)


@contextlib.contextmanager
def replacing(
  path: str | os.PathLike[str], mode: int | None = PRIVATE
) -> Iterator[BinaryIO]:
  """Yield a file that replaces another one when it is complete.

  Concurrent writers do not mix: the last one to finish wins. What a killed
  writer left is removed.

  Args:
    path: File to replace; it may be missing unless `mode` is None.
    mode: Permissions, limited by the umask. None keeps those of `path`.

  Raises:
    ArgumentError: If its name is too long.
    OSError: If the file cannot be written; the old one is still there then. If
      only the last step fails, which waits until the new name is on the disk,
      it is the new one.
  """
  path = pathlib.Path(path)
  check_name_length(path)
  new_mode = PRIVATE if mode is None else mode
  with _new_part(path, new_mode) as (part, file):
    if mode is None:
      os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
    yield file
    sync_file(file)
    os.replace(part, path)
  with contextlib.suppress(OSError):  # The folder may not be listed.
    _remove_abandoned_parts(path)
  sync_folder(path.parent)


def check_name_length(path: pathlib.Path) -> None:
  """Raise an ArgumentError if a new file has no name, or too long a name."""
  if not path.name:
    raise ArgumentError(f"{path} names no file")
  size = len(os.fsencode(path.name))
  if size > _MAX_NAME_BYTES:
    raise ArgumentError(
      f"the file name {path.name[:16]}... has {size} bytes: at most "
      f"{_MAX_NAME_BYTES} are possible"
    )


@contextlib.contextmanager
def _new_part(
  path: pathlib.Path, mode: int
) -> Iterator[tuple[pathlib.Path, BinaryIO]]:
  """Yield a new file next to another; it is removed if it keeps its name."""
  while True:
    # Not the process number: in a container it may be that of a killed process.
    part = path.with_name(f".{path.name}.{os.urandom(8).hex()}.part")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    if _in_use(part, fd):
      break
    os.close(fd)
  try:
    with os.fdopen(fd, "wb") as file:
      yield part, file
  finally:
    part.unlink(missing_ok=True)


def _in_use(part: pathlib.Path, fd: int) -> bool:
  """Lock a new file; return False if it was removed as an abandoned one."""
  try:
    return try_lock(fd) and os.path.samestat(os.fstat(fd), part.stat())
  except FileNotFoundError:
    return False
  except OSError:  # Without locks on the file system nothing is removed.
    return True


def sync_file(file: BinaryIO) -> None:
  """Wait until what was written to a file is on the disk."""
  file.flush()
  os.fsync(file.fileno())


def sync_folder(folder: pathlib.Path) -> None:
  """Wait until the names in a folder are on the disk."""
  fd = os.open(folder, os.O_RDONLY)
  try:
    os.fsync(fd)
  finally:
    os.close(fd)


def _remove_abandoned_parts(path: pathlib.Path) -> None:
  """Remove what killed writers of a file left, and nothing that is in use."""
  part = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{16}}\.part")
  for name in filter(part.fullmatch, os.listdir(path.parent)):
    abandoned = path.with_name(name)
    with contextlib.suppress(OSError):
      fd = os.open(abandoned, os.O_RDONLY | os.O_NOFOLLOW)
      try:
        if try_lock(fd):
          abandoned.unlink()
      finally:
        os.close(fd)


def read(path: str | os.PathLike[str]) -> bytes:
  """Read a file that only its owner can read.

  Raises:
    PermissionError: If others can read it.
  """
  with open_to_read(path) as file:
    return file.read()


def as_utf8(data: bytes) -> bytes:
  r"""Return ASCII or Unicode text as UTF-8 without a byte order mark.

  Editors and shells of Windows write marks and UTF-16. Data that is not text
  is returned as it is.

  Example:
    >>> as_utf8("key".encode("utf-16")), as_utf8(b"\xef\xbb\xbfkey")
    (b'key', b'key')
  """
  if data.startswith(codecs.BOM_UTF8):
    return data.removeprefix(codecs.BOM_UTF8)
  zeros = [byte == 0 for byte in data[:2]]
  if data.startswith(codecs.BOM_UTF16_LE) or zeros == [False, True]:
    encoding = "utf-16-le"
  elif data.startswith(codecs.BOM_UTF16_BE) or zeros == [True, False]:
    encoding = "utf-16-be"
  else:
    return data
  try:
    return data.decode(encoding).removeprefix("\ufeff").encode()
  except UnicodeError:
    return data


def other_reader(data: bytes) -> str:
  r"""Return what reads a key file of another kind, for an error.

  Example:
    >>> other_reader(b"00" * 32 + b"\n"), other_reader(b"hello")
    (': it holds a secret, which Secret.load reads', '')
  """
  text = as_utf8(data).strip()
  if re.fullmatch(rb"[0-9a-fA-F]{64}", text):
    return ": it holds a secret, which Secret.load reads"
  if text.startswith((b"KEYJAX-", b"-----BEGIN ")):
    return ": it holds a private key, which keyring.read_key reads"
  if b"keyjax" in data and b"sha256" in data:
    return ": it holds a key of a scheme, which keys.load reads"
  return ""


def read_limited(path: str | os.PathLike[str], size: int) -> bytes:
  """Read a private file of at most `size` bytes.

  Raises:
    KeyringError: If it does not exist or is larger.
    PermissionError: If others can read it.
  """
  try:
    if pathlib.Path(path).stat().st_size > size:
      raise KeyringError(f"{path} is too large: it has more than {size} bytes")
    return read(path)
  except FileNotFoundError:
    raise KeyringError(f"{path} does not exist") from None


def open_to_read(path: str | os.PathLike[str]) -> io.FileIO:
  """Open a private file for reading, without a buffer.

  Raises:
    PermissionError: If others can read it.
  """
  fd = os.open(path, os.O_RDONLY)
  try:
    file = io.FileIO(fd)
  except IsADirectoryError:  # It would name the number of the file.
    os.close(fd)
    raise IsADirectoryError(f"{path} is a folder, not a file") from None
  mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
  if mode & 0o077:
    file.close()
    raise PermissionError(
      f"{path} has mode {mode:03o}: others can read it; run chmod 600 on it"
    )
  return file


@contextlib.contextmanager
def lock(path: str | os.PathLike[str]) -> Iterator[None]:
  """Hold the lock of a file, `PATH.lock`; the system frees it after a kill.

  Raises:
    KeyringError: If another process held it for 10 seconds.
    OSError: If the folder cannot be written to.
  """
  path = pathlib.Path(path)
  lock_file = path.with_name(f"{path.name}.lock")
  fd = os.open(lock_file, os.O_RDWR | os.O_CREAT, PRIVATE)
  try:
    end = time.monotonic() + _LOCK_TIMEOUT
    while not try_lock(fd):
      if time.monotonic() > end:
        raise KeyringError(f"another process is changing {path}")
      time.sleep(0.05)
    yield
  finally:
    os.close(fd)


def try_lock(fd: int) -> bool:
  """Lock an open file until it is closed, without waiting.

  Returns:
    False if another holder has the lock.
  """
  try:
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    return False
  return True


def lock_folder(folder: str | os.PathLike[str]) -> int | None:
  """Lock a folder until the returned descriptor is closed, or a kill.

  Returns:
    A descriptor, or None if another holder has the lock.
  """
  fd = os.open(folder, os.O_RDONLY)
  try:
    held = try_lock(fd)
  except OSError:  # Some network file systems cannot lock folders.
    return fd
  if held:
    return fd
  os.close(fd)
  return None
