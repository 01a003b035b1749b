"""Where private keys come from: a file, the environment, a descriptor.

One grammar for all: `file:PATH`, `env:NAME`, `fd:N`. Never the key itself: what
stands on a command line shows in `ps` and in the shell's history.

The buffer that is read into is zeroed. What Python cannot clear stays until its
memory is used again: the copies that parsing makes, the key inside `Secret` and
inside the objects of `cryptography`, passphrases (they are `str`), and the
process's copy of its environment, which `/proc/PID/environ` shows to the same
user: of the three, `fd` leaves least behind. Against somebody who reads the
memory of the process nothing here helps.
"""

import contextlib
import io
import os
import pathlib
from collections.abc import Iterator

from keyjax import private_files
from keyjax.errors import KeyringError, WrongPassphrase
from keyjax.keyring.keyfile import (
  MAX_KEY,
  Ask,
  PrivateKey,
  format_key,
  parse_key,
  protect_key,
)
from keyjax.keyring.recipients.passphrase import Cost


def write_key(
  path: str | os.PathLike[str],
  key: PrivateKey,
  passphrase: str | None = None,
  *,
  plain: bool = False,
  cost: Cost = Cost(),  # noqa: B008
) -> None:
  """Writes a private key to a new file with mode 600.

  Args:
    path: a new file, not inside a checkpoint.
    key: a `Secret`, or a private key of this package.
    passphrase: what protects it.
    plain: write it without a passphrase.
    cost: of one guess at the passphrase.

  Raises:
    FileExistsError: `path` exists: a key is never overwritten.
    KeyringError: neither or both of `passphrase` and `plain` are given, or
      `path` lies in a checkpoint.

  Example:
    >>> import tempfile
    >>> from keyjax import Secret
    >>> path, key = tempfile.mkdtemp() + "/root.key", Secret.generate()
    >>> write_key(path, key, plain=True)
    >>> read_key(f"file:{path}") == key
    True
  """
  if plain == (passphrase is not None):
    raise KeyringError(
      "a key file is protected by a passphrase, or plain=True says that it is "
      "not"
    )
  private_files.refuse_checkpoint_folder(path)
  if passphrase is None:
    text = format_key(key)
  else:
    text = protect_key(key, passphrase, cost)
  private_files.create(path, text.encode("ascii") + b"\n", "key")


def read_key(source: str, passphrase: Ask = None) -> PrivateKey:
  """Reads a private key.

  Args:
    source: `file:PATH`, `env:NAME`, or `fd:N` of an open descriptor, which is
      read to its end and closed.
    passphrase: what opens it, or a function that asks for it when needed.

  Raises:
    WrongPassphrase: the passphrase is wrong, or the text is damaged.
    KeyringError: the source cannot be used, does not hold a private key, or
      the key needs a passphrase. What is no source is not repeated: it might
      be a key that somebody pasted.
    PermissionError: others than its owner can read the file.
  """
  with read_source(source) as text:
    try:
      return parse_key(text, passphrase)
    except WrongPassphrase:
      raise WrongPassphrase(source.removeprefix("file:")) from None


@contextlib.contextmanager
def read_source(source: str, what: str = "key") -> Iterator[bytearray]:
  r"""Gives the text of a source, and zeroes it afterwards.

  Args:
    source: `file:PATH`, `env:NAME` or `fd:N`.
    what: what is there, for the errors.

  Raises:
    KeyringError: it is none of these, or nothing is there.
    PermissionError: others than its owner can read the file.

  Example:
    >>> os.environ["KEYJAX_DEMO"] = "secret"
    >>> with read_source("env:KEYJAX_DEMO") as text:
    ...   text
    bytearray(b'secret')
    >>> text
    bytearray(b'\x00\x00\x00\x00\x00\x00')
  """
  kind, _, rest = source.partition(":")
  readers = {"file": _from_file, "env": _from_env, "fd": _from_descriptor}
  if kind not in readers or not rest:
    raise KeyringError(f"a {what} comes from file:PATH, env:NAME or fd:NUMBER")
  text = readers[kind](rest, what)
  try:
    yield text
  finally:
    wipe(text)


def wipe(buffer: bytearray) -> None:
  r"""Zeroes a buffer in place.

  Example:
    >>> buffer = bytearray(b"key")
    >>> wipe(buffer)
    >>> buffer
    bytearray(b'\x00\x00\x00')
  """
  buffer[:] = bytes(len(buffer))


def _from_file(path: str, what: str) -> bytearray:
  place = pathlib.Path(path).expanduser()
  private_files.refuse_checkpoint_folder(place)
  try:
    with private_files.open_to_read(place) as file:
      return _slurp(file)
  except FileNotFoundError:
    raise KeyringError(f"the {what} file {path} does not exist") from None


def _from_env(name: str, what: str) -> bytearray:
  value = os.environ.get(name)
  if value is None:
    raise KeyringError(f"the environment variable of the {what} is not set")
  return bytearray(value, "utf-8")


def _from_descriptor(number: str, what: str) -> bytearray:
  if not number.isascii() or not number.isdigit() or number in ("1", "2"):
    raise KeyringError("a descriptor is 0, or 3 and above")
  try:
    with io.FileIO(int(number)) as file:
      return _slurp(file)
  except OSError:
    raise KeyringError(
      f"descriptor {number} of the {what} cannot be read"
    ) from None


def _slurp(file: io.FileIO) -> bytearray:
  """Reads a whole file into one buffer that can be zeroed."""
  buffer, size = bytearray(MAX_KEY + 1), 0
  with memoryview(buffer) as view:
    while size < len(buffer) and (n := file.readinto(view[size:])):
      size += n
  if size > MAX_KEY:
    wipe(buffer)
    raise KeyringError(
      f"more than {MAX_KEY} bytes: no private key is that long"
    )
  text = buffer[:size]
  wipe(buffer)
  return text
