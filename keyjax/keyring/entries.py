"""Contents of a keyring and its allowed changes, without files or ciphers."""

import dataclasses
import datetime
from typing import Any, Literal

from keyjax.errors import KeyringError
from keyjax.keyring.encoding import check_name, encode, field
from keyjax.keyring.recipients import Private
from keyjax.secrets import SECRET_BYTES, Secret

Status = Literal["enabled", "disabled", "destroyed"]
_STATUSES = ("enabled", "disabled", "destroyed")


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Entry(Private):
  """One key encryption key.

  Attributes:
    id: Name of the keyring, a slash and a number.
    fingerprint: Public name of the key; it remains after destruction.
    created: RFC 3339 time of creation.
    status: "enabled", "disabled" or "destroyed".
    primary: Whether this is the one key that wraps.
    secret: Key itself; None once it is destroyed.
  """

  id: str
  fingerprint: str
  created: str
  status: Status
  primary: bool
  secret: Secret | None

  @property
  def recipient_id(self) -> str:
    """Id of its stanzas."""
    return f"aes:{self.fingerprint}"


@dataclasses.dataclass(frozen=True)
class Grant:
  """The entry of a licensee, who receives a copy of their own.

  Attributes:
    name: Name of the licensee.
    created: RFC 3339 time at which their key was issued.
    withdrawn: Whether nothing may be wrapped for them any more.
  """

  name: str
  created: str
  withdrawn: bool


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class State(Private):
  """Contents of a keyring; every change returns another state."""

  name: str
  entries: tuple[Entry, ...]
  grants: tuple[Grant, ...]
  licensing: Secret

  def entry(self, key_id: str) -> Entry:
    """Return one key; raise a KeyringError if there is none of this id."""
    for entry in self.entries:
      if entry.id == key_id:
        return entry
    raise KeyringError(f"there is no key {key_id} in keyring {self.name}")

  def primary(self) -> Entry:
    """Return the key that wraps."""
    return next(entry for entry in self.entries if entry.primary)

  def added(self) -> "State":
    """Return the state with one more enabled key."""
    secret = Secret.generate()
    entry = Entry(
      id=f"{self.name}/{len(self.entries) + 1}",
      fingerprint=secret.fingerprint(),
      created=now(),
      status="enabled",
      primary=not self.entries,
      secret=secret,
    )
    return dataclasses.replace(self, entries=(*self.entries, entry))

  def promoted(self, key_id: str) -> "State":
    """Return the state with another primary key."""
    entry = self.entry(key_id)
    if entry.status != "enabled":
      raise KeyringError(f"key {key_id} is {entry.status}: enable it first")
    entries = tuple(
      dataclasses.replace(e, primary=e.id == key_id) for e in self.entries
    )
    return dataclasses.replace(self, entries=entries)

  def with_status(self, key_id: str, status: Status) -> "State":
    """Return the state with a key of another status."""
    entry = self.entry(key_id)
    if entry.status == "destroyed":
      raise KeyringError(f"key {key_id} was destroyed and cannot be restored")
    if entry.primary and status != "enabled":
      raise KeyringError(f"key {key_id} is primary: promote another key first")
    if status == "destroyed" and entry.status != "disabled":
      raise KeyringError(
        f"key {key_id} is enabled: disable it first, and check that nothing "
        "needs it; a destroyed key cannot be restored"
      )
    secret = None if status == "destroyed" else entry.secret
    changed = dataclasses.replace(entry, status=status, secret=secret)
    entries = tuple(changed if e is entry else e for e in self.entries)
    return dataclasses.replace(self, entries=entries)

  def with_grant(self, grant: Grant) -> "State":
    """Return the state with a licensee added or changed."""
    others = [g for g in self.grants if g.name != grant.name]
    grants = tuple(sorted([*others, grant], key=lambda g: g.name))
    return dataclasses.replace(self, grants=grants)

  def reveal(self) -> dict[str, Any]:
    """Return everything for JSON, including keys: seal it immediately."""
    keys = [
      {f.name: getattr(e, f.name) for f in dataclasses.fields(e)}
      | {"secret": _raw(e.secret)}
      for e in self.entries
    ]
    return {
      "keys": keys,
      "licensees": [dataclasses.asdict(g) for g in self.grants],
      "licensing": _raw(self.licensing),
      "name": self.name,
    }


def read_state(document: dict[str, Any]) -> State:
  """Read what `State.reveal` returned.

  Raises:
    KeyringError: If it is not a state with exactly one primary key.
  """
  state = State(
    name=check_name(field(document, "name", str), "keyring"),
    entries=tuple(_entry(e) for e in field(document, "keys", list)),
    grants=tuple(
      Grant(
        name=check_name(field(g, "name", str), "licensee"),
        created=field(g, "created", str),
        withdrawn=field(g, "withdrawn", bool),
      )
      for g in field(document, "licensees", list)
    ),
    licensing=Secret(field(document, "licensing", bytes, SECRET_BYTES)),
  )
  if sum(entry.primary for entry in state.entries) != 1:
    raise KeyringError("a keyring has exactly one primary key")
  return state


def _entry(fields: dict[str, Any]) -> Entry:
  status = field(fields, "status", str)
  if status not in _STATUSES:
    raise KeyringError("a key of a keyring has an unknown status")
  secret = None
  if fields.get("secret") is not None:
    secret = Secret(field(fields, "secret", bytes, SECRET_BYTES))
  return Entry(
    id=field(fields, "id", str),
    fingerprint=field(fields, "fingerprint", str),
    created=field(fields, "created", str),
    status=status,
    primary=field(fields, "primary", bool),
    secret=secret,
  )


def _raw(secret: Secret | None) -> str | None:
  return None if secret is None else encode(secret._bytes)


def now() -> str:
  """Return the current UTC time in RFC 3339, to the second."""
  return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
