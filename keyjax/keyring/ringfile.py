"""The file of a keyring: a line that says what it is, then sealed JSON."""

import pathlib

from keyjax import private_files
from keyjax.errors import CannotOpen, KeyringError
from keyjax.keyring.encoding import dump, parse
from keyjax.keyring.entries import State, read_state
from keyjax.keys import Secret
from keyjax.seal import SealError, seal, unseal

_MAGIC = b"keyjax-keyring "
_VERSION = b"1"
_MAX_SIZE = 2**26


def write_ring(path: pathlib.Path, root: Secret, state: State) -> None:
  """Replaces the file of a keyring; the caller holds its lock."""
  name = state.name.encode("ascii")
  sealed = seal(_file_key(root), dump(state.reveal()), _context(name))
  private_files.replace(path, _MAGIC + _VERSION + b" " + name + b"\n" + sealed)


def read_ring(path: pathlib.Path, root: Secret, name: str | None) -> State:
  """Reads the file of a keyring.

  Raises:
    CannotOpen: the root is wrong, or the file is damaged.
    KeyringError: it is not a keyring, or of an unknown version or another
      name.
  """
  data = private_files.read_limited(path, _MAX_SIZE)
  head, _, sealed = data.partition(b"\n")
  parts = head.removeprefix(_MAGIC).split(b" ")
  if not head.startswith(_MAGIC) or len(parts) != 2:
    raise KeyringError(f"{path} is not a keyring")
  if parts[0] != _VERSION:
    raise KeyringError(
      f"{path} is a keyring of another version than {_VERSION.decode()}, the "
      "one that this release of KeyJAX reads"
    )
  try:
    plain = unseal(_file_key(root), sealed, _context(parts[1]))
  except SealError:
    raise CannotOpen from None
  state = read_state(parse(plain, "a keyring", size=_MAX_SIZE, items=_MAX_SIZE))
  if name not in (None, state.name):
    raise KeyringError(f"{path} holds keyring {state.name}, not {name}")
  return state


def _file_key(root: Secret) -> bytes:
  return root.derive("keyring/file", 32)


def _context(name: bytes) -> bytes:
  return b"keyjax/keyring/1/" + name
