"""Keyrings: the key encryption keys of a model or a team, in one file.

The hierarchy: a root secret opens the file of a keyring; the keys in it wrap
data keys, one for each checkpoint; from a data key, one key is derived for each
leaf and purpose (`leaf_key`). Each key is enabled, disabled or destroyed; one
is primary and wraps, all enabled ones unwrap.

The file is one line that identifies it, and JSON sealed under a key derived
from the root. It is replaced in one step: a kill at any moment leaves the old
keyring or the new one. Changes by several processes wait for each other, and
none is lost.

**Guarantees.** Without the root the file can be neither read nor changed. A
disabled key opens nothing, and the error says so. The file does not contain
destroyed keys.

**Known breaks.** Anyone who can write the file can replace it with an older
copy, with the statuses at that time: store it where only its owner can write,
and rotate the root when a copy is lost. Disks and backups keep old blocks:
destroying a key erases it from this file only. Back up the root (`shares`)
*and* the file: neither opens anything without the other.

References:
  Google, "Tink: Keysets", developers.google.com/tink/design/keysets.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable

from keyjax import private_files
from keyjax.errors import CannotOpen, KeyringError
from keyjax.keyring.encoding import check_name, dump, parse
from keyjax.keyring.entries import (
  Entry,
  Grant,
  State,
  Status,
  now,
  read_state,
)
from keyjax.keyring.licensees import Licensee
from keyjax.keyring.recipients import Identity, Private, Stanza
from keyjax.keyring.recipients.symmetric import SymmetricKey
from keyjax.seal import SealError, seal, unseal
from keyjax.secrets import Secret, require_secret

_MAGIC = b"keyjax-keyring "
_VERSION = b"1"
_MAX_SIZE = 2**26


class Keyring(Private):
  """The key encryption keys of a model or a team.

  Example:
    >>> import tempfile
    >>> from keyjax.keyring import open_envelope, seal_envelope
    >>> root, folder = Secret.generate(), tempfile.mkdtemp()
    >>> ring = Keyring.create(f"{folder}/team-a.keyring", root, "team-a")
    >>> envelope = seal_envelope(
    ...   bytes(32), [ring.recipient()], checkpoint="model/1")
    >>> ring.rotate()
    'team-a/2'
    >>> open_envelope(envelope, ring.identities()).checkpoint
    'model/1'
  """

  __slots__ = ("_path", "_root", "_state")

  def __init__(self, path: pathlib.Path, root: Secret, state: State):
    """Make a keyring; users call `create` or `load`."""
    self._path = path
    self._root = root
    self._state = state

  @property
  def path(self) -> pathlib.Path:
    """Path of the file."""
    return self._path

  @classmethod
  def create(
    cls, path: str | os.PathLike[str], root: Secret, name: str
  ) -> "Keyring":
    """Create a keyring with one key, and its file with mode 600.

    Args:
      path: New file, not inside a checkpoint.
      root: Secret that seals the file; many keyrings can share one.
      name: Name of the model or the team.

    Raises:
      FileExistsError: If `path` exists.
      ArgumentError: If the name of the file is too long.
      KeyringError: If the name cannot be used, or `path` is in a checkpoint.
    """
    path = pathlib.Path(path)
    private_files.check_name_length(path)
    require_secret(root, "Keyring.create")
    private_files.refuse_checkpoint_folder(path)
    empty = State(
      name=check_name(name, "keyring"),
      entries=(),
      grants=(),
      licensing=Secret.generate(),
    )
    ring = cls(path, root, empty.added())
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with private_files.lock(path):
      if path.exists():
        raise FileExistsError(f"{path} exists; a keyring is never overwritten")
      _write(path, root, ring._state)
    return ring

  @classmethod
  def load(
    cls, path: str | os.PathLike[str], root: Secret, name: str | None = None
  ) -> "Keyring":
    """Read a keyring.

    Args:
      path: File of the keyring.
      root: Secret that seals it.
      name: Expected name of the model or the team; None accepts any.

    Raises:
      PermissionError: If others than its owner can read the file.
      CannotOpen: If the root is wrong, or the file is damaged.
      KeyringError: If there is no keyring, or one of an unknown version or of
        another name, or it is inside a checkpoint.
    """
    path = pathlib.Path(path)
    require_secret(root, "Keyring.load")
    private_files.refuse_checkpoint_folder(path)
    return cls(path, root, _read(path, root, name))

  @property
  def name(self) -> str:
    """Name of the model or the team."""
    return self._state.name

  id = name

  @property
  def entries(self) -> tuple[Entry, ...]:
    """All keys that were ever created, oldest first."""
    return self._state.entries

  @property
  def licensees(self) -> tuple[Grant, ...]:
    """Entries of all licensees that were ever issued, by name."""
    return self._state.grants

  def add(self) -> str:
    """Add an enabled key that is not primary, and return its id."""
    self._change(State.added)
    return self._state.entries[-1].id

  def promote(self, key_id: str) -> None:
    """Make an enabled key the primary one."""
    self._change(lambda state: state.promoted(key_id))

  def rotate(self) -> str:
    """Add a key and make it primary in one step, and return its id.

    Older keys still open what they wrapped: rewrap it, then disable them.
    """

    def change(state: State) -> State:
      added = state.added()
      return added.promoted(added.entries[-1].id)

    self._change(change)
    return self._state.primary().id

  def enable(self, key_id: str) -> None:
    """Enable a disabled key."""
    self._set(key_id, "enabled")

  def disable(self, key_id: str) -> None:
    """Disable a key that is not primary: it opens nothing until enabled."""
    self._set(key_id, "disabled")

  def destroy(self, key_id: str) -> None:
    """Erase a disabled key permanently."""
    self._set(key_id, "destroyed")

  def recipient(self, key_id: str | None = None) -> SymmetricKey:
    """Return the primary key, to wrap with.

    Args:
      key_id: Expected primary key; None accepts any.

    Raises:
      KeyringError: If that key is not the primary one.
    """
    primary = self._state.primary()
    if key_id is not None and self._state.entry(key_id) is not primary:
      raise KeyringError(
        f"key {key_id} is not primary: {primary.id} wraps in this keyring"
      )
    assert primary.secret is not None  # A primary key is enabled.
    return SymmetricKey(primary.secret)

  def identities(self) -> list[Identity]:
    """Return all keys; those that are not enabled raise an error when tried."""
    return [_identity(entry) for entry in self.entries]

  def issue(self, name: str) -> Licensee:
    """Issue the key of a new licensee.

    Raises:
      KeyringError: If there is one of this name, or it cannot be used.
    """
    grant = Grant(check_name(name, "licensee"), now(), withdrawn=False)

    def change(state: State) -> State:
      if any(g.name == name for g in state.grants):
        raise KeyringError(f"there is a licensee {name} already")
      return state.with_grant(grant)

    self._change(change)
    return self.licensee(name)

  def withdraw(self, name: str) -> None:
    """Withdraw a licensee: nothing can be wrapped for them any more."""
    grant = dataclasses.replace(self._grant(name), withdrawn=True)
    self._change(lambda state: state.with_grant(grant))

  def licensee(self, name: str) -> Licensee:
    """Return the key and mark of a licensee.

    Raises:
      KeyringError: If there is none of this name.
    """
    return Licensee(self._grant(name), self._state.licensing)

  def issued(self) -> list[Licensee]:
    """Return the keys and marks of all licensees, for `trace_licensee`."""
    return [self.licensee(grant.name) for grant in self.licensees]

  def _grant(self, name: str) -> Grant:
    for grant in self._state.grants:
      if grant.name == name:
        return grant
    raise KeyringError(f"there is no licensee {name} in keyring {self.name}")

  def _set(self, key_id: str, status: Status) -> None:
    self._change(lambda state: state.with_status(key_id, status))

  def _change(self, change: Callable[[State], State]) -> None:
    """Apply a change to the file, then to this object."""
    with private_files.lock(self._path):
      state = change(_read(self._path, self._root, self.name))
      _write(self._path, self._root, state)
    self._state = state


class _Unusable:
  """A key that is disabled or destroyed; using it raises an error."""

  def __init__(self, entry: Entry):
    self.id = entry.recipient_id
    self._message = f"key {entry.id} is {entry.status}"

  def unwrap(self, stanza: Stanza, context: bytes) -> bytes | None:
    if stanza.get("id") == self.id:
      raise KeyringError(self._message)
    return None


def _identity(entry: Entry) -> Identity:
  if entry.status != "enabled" or entry.secret is None:
    return _Unusable(entry)
  return SymmetricKey(entry.secret)


def _write(path: pathlib.Path, root: Secret, state: State) -> None:
  """Replace the file of a keyring; the caller holds its lock."""
  name = state.name.encode("ascii")
  sealed = seal(_file_key(root), dump(state.reveal()), _context(name))
  private_files.replace(path, _MAGIC + _VERSION + b" " + name + b"\n" + sealed)


def _read(path: pathlib.Path, root: Secret, name: str | None) -> State:
  """Read the file of a keyring; see `Keyring.load`."""
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
