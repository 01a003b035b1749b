"""Sources of private keys: a file, the environment, a descriptor.

One grammar for all: `file:PATH`, `env:NAME`, `fd:N`. What `write_key` takes for
a file, a path or `file:PATH`, `read_key` takes too. Never the key itself:
command lines are visible in `ps` and in the history of the shell.

The buffer that is read into is zeroed. Python cannot clear the rest, which
stays until its memory is reused: the copies that parsing makes, the key inside
`Secret` and inside the objects of `cryptography`, passphrases (they are `str`),
and the environment of the process, which `/proc/PID/environ` shows to the same
user. Of the three sources, `fd` leaves the least behind. Nothing here protects
against an attacker who reads the memory of the process.
"""

import contextlib
import io
import os
import pathlib
from collections.abc import Iterator

from keyjax import private_files
from keyjax.errors import KeyringError, WrongPassphrase
from keyjax.keyring.encoding import encode_secret
from keyjax.keyring.keyfile import (
  MAX_KEY,
  Ask,
  PrivateKey,
  format_key,
  parse_key,
  protect_key,
)
from keyjax.keyring.recipients.passphrase import MAX_COST, Cost

_KINDS = ("file", "env", "fd")


def write_key(
  path: str | os.PathLike[str],
  key: PrivateKey,
  passphrase: str | None = None,
  *,
  plain: bool = False,
  cost: Cost = Cost(),  # noqa: B008
) -> None:
  """Write a private key to a new file with mode 600.

  `read_key` with the same `path` and passphrase returns the same key.

  Args:
    path: New file, or `file:PATH`; not inside a checkpoint.
    key: `Secret`, or a private key of any kind.
    passphrase: Passphrase that protects it.
    plain: Whether to write it without a passphrase.
    cost: Cost of one guess at the passphrase.

  Raises:
    FileExistsError: If `path` exists: a key is never overwritten.
    KeyringError: If neither or both of `passphrase` and `plain` are given,
      `path` is inside a checkpoint or another source than a file, or a key of
      this kind has no key file.

  Example:
    >>> import tempfile
    >>> from keyjax import Secret
    >>> path, key = tempfile.mkdtemp() + "/root.key", Secret.generate()
    >>> write_key(path, key, plain=True)
    >>> read_key(path) == key
    True
  """
  kind, _, rest = _source_of(path).partition(":")
  if kind != "file" or not rest:
    raise KeyringError("a key is written to a file: give its path")
  file = pathlib.Path(rest).expanduser()
  if plain == (passphrase is not None):
    raise KeyringError(
      "give a passphrase that protects the key file, or plain=True for none"
    )
  private_files.refuse_checkpoint_folder(file)
  if passphrase is None:
    text = format_key(key)
  else:
    text = protect_key(key, passphrase, cost)
  private_files.create(file, text.encode("ascii") + b"\n", "key")


def read_key(
  source: str | os.PathLike[str],
  passphrase: Ask = None,
  *,
  max_cost: Cost = MAX_COST,
) -> PrivateKey:
  """Read a private key.

  Args:
    source: Path, `file:PATH`, `env:NAME`, or `fd:N` of an open descriptor,
      which is read to its end and closed.
    passphrase: Passphrase, or a function that asks for it when it is needed.
    max_cost: Largest cost of a guess to spend; see `parse_key`.

  Raises:
    WrongPassphrase: If the passphrase is wrong, or the text is damaged.
    KeyringError: If the source cannot be used, does not contain a private key,
      or the key needs a passphrase. The message does not repeat a malformed
      source: it might be a key that was pasted.
    PermissionError: If others than its owner can read the file.
  """
  if isinstance(source, os.PathLike) or _is_file(source):
    source = _source_of(source)
  with read_source(source) as text:
    try:
      return parse_key(text, passphrase, max_cost=max_cost)
    except WrongPassphrase:
      raise WrongPassphrase(source.removeprefix("file:")) from None


def _source_of(path: str | os.PathLike[str]) -> str:
  """Return the source of a path; text may be one already."""
  name = os.fspath(path)
  is_source = isinstance(path, str) and path.partition(":")[0] in _KINDS
  return name if is_source else f"file:{name}"


def _is_file(text: str) -> bool:
  """Return whether text without a kind of source names a file.

  If not, it is never shown: it might be a key that was pasted.
  """
  is_source = text.partition(":")[0] in _KINDS
  return not is_source and os.path.isfile(os.path.expanduser(text))


@contextlib.contextmanager
def read_source(source: str, what: str = "key") -> Iterator[bytearray]:
  r"""Yield the text of a source, and zero it afterwards.

  Args:
    source: `file:PATH`, `env:NAME` or `fd:N`.
    what: Expected content, for error messages.

  Raises:
    KeyringError: If it is none of these, or does not exist.
    PermissionError: If others than its owner can read the file.

  Example:
    >>> os.environ["KEYJAX_DEMO"] = "secret"
    >>> with read_source("env:KEYJAX_DEMO") as text:
    ...   text
    bytearray(b'secret')
    >>> text
    bytearray(b'\x00\x00\x00\x00\x00\x00')
  """
  if isinstance(source, os.PathLike):
    raise TypeError(f"a {what} comes from file:PATH: give f'file:{source}'")
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
  r"""Zero a buffer in place.

  Example:
    >>> buffer = bytearray(b"key")
    >>> wipe(buffer)
    >>> buffer
    bytearray(b'\x00\x00\x00')
  """
  buffer[:] = bytes(len(buffer))


def _from_file(path: str, what: str) -> bytearray:
  file_path = pathlib.Path(path).expanduser()
  private_files.refuse_checkpoint_folder(file_path)
  try:
    with private_files.open_to_read(file_path) as file:
      return _read_all(file)
  except FileNotFoundError:
    raise KeyringError(f"the {what} file {path} does not exist") from None


def _from_env(name: str, what: str) -> bytearray:
  value = os.environ.get(name)
  if value is None:
    raise KeyringError(f"the environment variable of the {what} is not set")
  return bytearray(encode_secret(value, what))


def _from_descriptor(number: str, what: str) -> bytearray:
  if not number.isascii() or not number.isdigit() or number in ("1", "2"):
    raise KeyringError("a descriptor is 0, or 3 and above")
  try:
    with io.FileIO(int(number)) as file:
      return _read_all(file)
  except OSError:
    raise KeyringError(
      f"descriptor {number} of the {what} cannot be read"
    ) from None


def _read_all(file: io.FileIO) -> bytearray:
  """Read a whole file into one buffer that can be zeroed."""
  buffer = bytearray(MAX_KEY + 1)
  size = 0
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
