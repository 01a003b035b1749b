"""Recipients and identities: their protocols, and the registry of kinds.

A *recipient* wraps a data key; an *identity* unwraps it. Between them there is
a *stanza*, a small JSON object in the envelope. Each kind has one file in this
folder, which calls `register` with everything that is specific to the kind:
how its public keys are written as text, how its private keys are stored in key
files, and how the command line names it. To add a kind, add a file here, or
register it from a package of your own before it is used.
"""

import dataclasses
import datetime
import functools
import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn, Protocol

from keyjax.errors import KeyringError
from keyjax.keyring.encoding import format_line, parse_line
from keyjax.secrets import SECRET_BYTES

Stanza = dict[str, str | int]


class Recipient(Protocol):
  """A party for which a data key is wrapped."""

  @property
  def id(self) -> str:
    """Public name: the kind, a colon, a fingerprint."""

  def wrap(self, data_key: bytes, context: bytes) -> Stanza:
    """Wrap a data key of 32 bytes, bound to a context.

    Returns:
      Strings and small integers; the envelope adds `id`.
    """


class PublicKey(Recipient, Protocol):
  """A recipient that has a text form, see `format_recipient`."""

  @property
  def kind(self) -> str:
    """Name of the kind, as it was registered."""

  @property
  def data(self) -> bytes:
    """The public key itself."""


class Identity(Protocol):
  """A party that can unwrap a data key."""

  @property
  def id(self) -> str:
    """Id of the recipient that it belongs to."""

  def unwrap(self, stanza: Stanza, context: bytes) -> bytes | None:
    """Return the data key, or None if the stanza is for another identity.

    Raises:
      CannotOpen: If the stanza is for this identity and does not open.
      KeyringError: If this identity must not be used; the message says why.
    """


class Private:
  """Base of objects that hold keys: not printed, pickled or copied."""

  __slots__ = ()

  def __repr__(self) -> str:
    return f"<{type(self).__name__} {getattr(self, 'id', '')}>"

  def __reduce_ex__(self, protocol: Any) -> NoReturn:
    raise TypeError(f"a {type(self).__name__} is not pickled or copied")


class Expiring:
  """A recipient whose access ends at a time stored in the envelope.

  The time is authenticated, and encrypted. It binds users of KeyJAX; a
  recipient who writes their own software is stopped by revocation (a new data
  key), not by a date.

  Example:
    >>> from keyjax.keyring import HpkePrivateKey
    >>> key = HpkePrivateKey.generate("x25519").public
    >>> Expiring(key, "2030-01-01T00:00:00Z").id == key.id
    True
  """

  def __init__(self, recipient: Recipient, expires: str):
    """Limit a recipient.

    Args:
      recipient: Any recipient.
      expires: RFC 3339 time with its zone, such as 2030-01-01T00:00:00Z.

    Raises:
      KeyringError: If the time cannot be read.
    """
    self._recipient = recipient
    self.id = recipient.id
    parse_time(expires)
    self.expires = expires

  def wrap(self, data_key: bytes, context: bytes) -> Stanza:
    """Wrap a data key for the recipient."""
    return self._recipient.wrap(data_key, context)

  def readmits(self, stanza: Stanza) -> int | None:
    """Return a licensee who is no longer revoked; see `Broadcast.readmits`."""
    check = getattr(self._recipient, "readmits", None)
    return None if check is None else check(stanza)


def parse_time(text: str) -> datetime.datetime:
  """Read a time that has a zone.

  Raises:
    KeyringError: If it cannot be read.
  """
  try:
    time = datetime.datetime.fromisoformat(text)
  except (TypeError, ValueError):
    time = None
  if time is None or time.tzinfo is None:
    raise KeyringError("a time looks like 2030-01-01T00:00:00Z")
  return time


def check_data_key(data_key: bytes) -> None:
  """Raise a ValueError unless this can be a data key."""
  if not isinstance(data_key, bytes) or len(data_key) != SECRET_BYTES:
    raise ValueError(f"a data key is {SECRET_BYTES} bytes")


class KeyReader(Protocol):
  """What the command line offers to an `Argument`."""

  def key(self, source: str) -> Any:
    """Return the private key of a source, such as `file:PATH`."""

  def passphrase(self, source: str) -> str:
    """Return the passphrase of a source, or ask for it if that is empty."""

  def new_passphrase(self, source: str) -> str:
    """Return a new passphrase; without a source, ask for it twice."""

  def pin(self, source: str, name: str, *, new: bool = False) -> str:
    """Return the PIN of a device, or ask for it, twice if it is new."""

  @property
  def max_cost(self) -> Any:
    """Largest `Cost` of a passphrase to spend."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Argument:
  """How the command line names a kind: `NAME`, or `NAME:REST`.

  `NAME` is the name of the kind. It never carries a key: arguments are visible
  in `ps` and in the history of a shell.

  Attributes:
    form: Form of the argument for help texts, such as "kms:FOLDER#KEY".
    help: Explanation for help texts.
    recipient: Return the recipient for `--to`, given the rest of the argument.
    identity: Return the identity for `-i`, given the rest of the argument.
    create: Create a key in its device, for `keyjax hardware create`; return it.
  """

  form: str
  help: str
  recipient: Callable[[str, KeyReader], Recipient] | None = None
  identity: Callable[[str, KeyReader], Identity] | None = None
  create: Callable[[str, KeyReader], Any] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
  """A kind of key, and everything that is specific to it.

  Attributes:
    name: Name in texts and key files, `keyjax-NAME:...` and
      `KEYJAX-SECRET-NAME:...`: lower case letters, digits and `-`.
    summary: Line for the help of `keyjax keygen`; empty if that command cannot
      create such a key.
    read_public: Return the recipient of the bytes in a public text; None if
      this kind has no public text.
    key_type: Class of the private keys; None if there are no key files.
    generate: Create a private key.
    read: Return the private key of the bytes in a key file; it raises a
      ValueError or a KeyringError if they are wrong.
    reveal: Return the bytes of a private key, for a key file.
    identity: Return the identity of a private key; None if it opens nothing.
    recipient: Return the recipient of a private key, which is a `PublicKey` if
      `read_public` is given; None if it has none.
    from_openssl: Return the private key of a key object of `cryptography`, or
      None if the object is of another kind. PEM files are read with it.
    to_openssl: Return the key object of `cryptography`, for a PEM file.
    argument: How the command line names it, apart from texts and key files.
  """

  name: str
  summary: str = ""
  read_public: Callable[[bytes], PublicKey] | None = None
  key_type: type | None = None
  generate: Callable[[], Any] | None = None
  read: Callable[[bytes], Any] | None = None
  reveal: Callable[[Any], bytes] | None = None
  identity: Callable[[Any], Identity] | None = None
  recipient: Callable[[Any], Any] | None = None
  from_openssl: Callable[[Any], Any] | None = None
  to_openssl: Callable[[Any], Any] | None = None
  argument: Argument | None = None


_KINDS: dict[str, Kind] = {}
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
# How arguments of the command line begin that are not named for a kind.
_RESERVED = ("env", "fd", "file", "keyring")


def register(kind: Kind) -> Kind:
  """Add a kind of key, for key files, texts and the command line.

  Raises:
    ValueError: If there is a kind of this name, or it cannot be one.
  """
  if not _NAME.fullmatch(kind.name) or kind.name in _RESERVED:
    raise ValueError(
      f"a kind of key cannot be called {kind.name!r}: lower case letters, "
      f"digits and hyphens, and not {', '.join(_RESERVED)}"
    )
  if kind.name in _KINDS:
    raise ValueError(f"there is a kind of key {kind.name!r} already")
  _KINDS[kind.name] = kind
  return kind


def kinds() -> Mapping[str, Kind]:
  """Return all kinds by name.

  Example:
    >>> "x25519" in kinds(), "morse" in kinds()
    (True, False)
  """
  _load()
  return MappingProxyType(_KINDS)


@functools.cache
def _load() -> None:
  """Import the files of this folder, which register their kinds."""
  for module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(module.name)


def kind_of(key: Any) -> Kind:
  """Return the kind of a private key.

  Raises:
    KeyringError: If no kind has such keys.
  """
  for kind in kinds().values():
    if kind.key_type is not None and isinstance(key, kind.key_type):
      if getattr(key, "kind", kind.name) == kind.name:
        return kind
  raise KeyringError(f"a {type(key).__name__} is not a private key")


def format_recipient(recipient: PublicKey) -> str:
  """Return `keyjax-KIND:BASE64`, with a checksum of four bytes.

  Example:
    >>> from keyjax.keyring import HpkePrivateKey
    >>> public = HpkePrivateKey.generate("x25519").public
    >>> text = format_recipient(public)
    >>> text[:14], parse_recipient(text) == public
    ('keyjax-x25519:', True)
  """
  return format_line(recipient.kind, recipient.data)


def parse_recipient(text: str) -> PublicKey:
  """Read what `format_recipient` returned.

  Raises:
    KeyringError: If it is not a recipient, of an unknown kind, or misread.
  """
  readers = {k.name: k.read_public for k in kinds().values() if k.read_public}
  kind, data = parse_line(text, tuple(readers), "a recipient")
  return readers[kind](data)
