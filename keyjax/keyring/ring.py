"""Keyrings: the key encryption keys of a model or a team, in one file.

The hierarchy: a root secret opens the file of a keyring; the keyring's keys
wrap data keys, one a checkpoint; from a data key comes one key a leaf and
purpose (`leaf_key`). Each key is enabled, disabled or destroyed; one is
primary and wraps, all that are enabled unwrap.

The file is sealed under a key derived from the root, and replaced in one step:
a kill at any moment leaves the old keyring or the new one. Changes by two
processes wait for each other and none is lost.

**Guarantees.** Without the root nobody reads or changes the file. A disabled
key opens nothing and says so. The material of a destroyed key is in the file
no more.

**Known breaks.** Who can write the file can put an older copy in its place,
with the statuses of that day: keep it where only its owner writes, and rotate
the root when a copy is lost. Disks and backups keep old blocks: destroying a
key erases it from this file alone. Back up the root (`shares`) *and* the file:
neither opens anything without the other.

References:
  Google, "Tink: Keysets", developers.google.com/tink/design/keysets.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable

from keyjax.errors import KeyringError
from keyjax.keyring.encoding import check_name
from keyjax.keyring.entries import Entry, Grant, State, Status, now
from keyjax.keyring.licensees import Licensee
from keyjax.keyring.recipients.base import (
  Identity,
  Private,
  Stanza,
  SymmetricKey,
)
from keyjax.keyring.ringfile import read_ring, write_ring
from keyjax.keys import Secret
from keyjax.private_files import lock, refuse_checkpoint_folder


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
    """Not for users; see `create` and `load`."""
    self._path, self._root, self._state = path, root, state

  @classmethod
  def create(
    cls, path: str | os.PathLike[str], root: Secret, name: str
  ) -> "Keyring":
    """Makes a keyring with one key, and its file with mode 600.

    Args:
      path: a new file, not inside a checkpoint.
      root: what seals the file; one root may serve many keyrings.
      name: of the model or the team.

    Raises:
      FileExistsError: `path` exists.
      KeyringError: the name cannot be used, or `path` is in a checkpoint.
    """
    path = pathlib.Path(path)
    refuse_checkpoint_folder(path)
    empty = State(check_name(name, "keyring"), (), (), Secret.generate())
    ring = cls(path, root, empty.added())
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with lock(path):
      if path.exists():
        raise FileExistsError(f"{path} exists; a keyring is never overwritten")
      write_ring(path, root, ring._state)
    return ring

  @classmethod
  def load(
    cls, path: str | os.PathLike[str], root: Secret, name: str | None = None
  ) -> "Keyring":
    """Reads a keyring.

    Args:
      path: its file.
      root: what seals it.
      name: of the model or the team that is expected; any if None.

    Raises:
      PermissionError: others than its owner can read the file.
      CannotOpen: the root is wrong, or the file is damaged.
      KeyringError: there is no keyring there, or one of an unknown version or
        of another name, or it lies in a checkpoint.
    """
    path = pathlib.Path(path)
    refuse_checkpoint_folder(path)
    return cls(path, root, read_ring(path, root, name))

  @property
  def name(self) -> str:
    """The name of the model or the team."""
    return self._state.name

  id = name

  @property
  def entries(self) -> tuple[Entry, ...]:
    """Every key that there ever was, oldest first."""
    return self._state.entries

  @property
  def licensees(self) -> tuple[Grant, ...]:
    """Every licensee that there ever was, by name."""
    return self._state.grants

  def add(self) -> str:
    """Adds an enabled key that is not primary; returns its id."""
    self._change(State.added)
    return self._state.entries[-1].id

  def promote(self, key_id: str) -> None:
    """Makes an enabled key the primary one."""
    self._change(lambda state: state.promoted(key_id))

  def rotate(self) -> str:
    """Adds a key and makes it primary, in one step; returns its id.

    Older keys still open what they wrapped: rewrap it, then disable them.
    """

    def change(state: State) -> State:
      added = state.added()
      return added.promoted(added.entries[-1].id)

    self._change(change)
    return self._state.primary().id

  def enable(self, key_id: str) -> None:
    """Enables a disabled key."""
    self._set(key_id, "enabled")

  def disable(self, key_id: str) -> None:
    """Disables a key that is not primary: it opens nothing until enabled."""
    self._set(key_id, "disabled")

  def destroy(self, key_id: str) -> None:
    """Erases the material of a disabled key, for ever."""
    self._set(key_id, "destroyed")

  def recipient(self, key_id: str | None = None) -> SymmetricKey:
    """Returns the primary key, to wrap with.

    Args:
      key_id: the key that is expected to be primary, if that matters.

    Raises:
      KeyringError: that key is not the primary one.
    """
    primary = self._state.primary()
    if key_id is not None and self._state.entry(key_id) is not primary:
      raise KeyringError(
        f"key {key_id} is not primary: {primary.id} wraps in this keyring"
      )
    assert primary.secret is not None  # A primary key is enabled.
    return SymmetricKey(primary.secret)

  def identities(self) -> list[Identity]:
    """Returns every key; one that is not enabled says so when it is tried."""
    return [_identity(entry) for entry in self.entries]

  def issue(self, name: str) -> Licensee:
    """Issues the key of a new licensee.

    Raises:
      KeyringError: there is one of this name, or it cannot be used.
    """
    grant = Grant(check_name(name, "licensee"), now(), withdrawn=False)

    def change(state: State) -> State:
      if any(g.name == name for g in state.grants):
        raise KeyringError(f"there is a licensee {name} already")
      return state.with_grant(grant)

    self._change(change)
    return self.licensee(name)

  def withdraw(self, name: str) -> None:
    """Marks a licensee: nothing is wrapped for them any more."""
    grant = dataclasses.replace(self._grant(name), withdrawn=True)
    self._change(lambda state: state.with_grant(grant))

  def licensee(self, name: str) -> Licensee:
    """Returns a licensee's key and mark.

    Raises:
      KeyringError: there is none of this name.
    """
    return Licensee(self._grant(name), self._state.licensing)

  def _grant(self, name: str) -> Grant:
    for grant in self._state.grants:
      if grant.name == name:
        return grant
    raise KeyringError(f"there is no licensee {name} in keyring {self.name}")

  def _set(self, key_id: str, status: Status) -> None:
    self._change(lambda state: state.with_status(key_id, status))

  def _change(self, change: Callable[[State], State]) -> None:
    """Applies a change to what is on the disk now, then here."""
    with lock(self._path):
      state = change(read_ring(self._path, self._root, self.name))
      write_ring(self._path, self._root, state)
    self._state = state


class _Unusable:
  """A key that is disabled or destroyed, and says so."""

  def __init__(self, entry: Entry):
    self.id = entry.recipient_id
    self._sentence = f"key {entry.id} is {entry.status}"

  def unwrap(self, stanza: Stanza, context: bytes) -> bytes | None:
    if stanza.get("id") == self.id:
      raise KeyringError(self._sentence)
    return None


def _identity(entry: Entry) -> Identity:
  if entry.status != "enabled" or entry.secret is None:
    return _Unusable(entry)
  return SymmetricKey(entry.secret)
