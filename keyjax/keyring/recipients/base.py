"""Who opens an envelope: the two protocols, and the symmetric recipient.

A *recipient* wraps a data key; an *identity* unwraps it. What stands between
them is a *stanza*, a small JSON object in the envelope. Each kind has its own
file: `public_key` (HPKE and RSA), `passphrase`, `kms`, `broadcast`.
"""

import datetime
import hashlib
from typing import Any, NoReturn, Protocol

from cryptography.hazmat.primitives import keywrap

from keyjax.errors import CannotOpen, KeyringError
from keyjax.keyring.encoding import encode, field
from keyjax.keys import SECRET_BYTES, Secret

Stanza = dict[str, str | int]
_WRAPPED = SECRET_BYTES + 8


class Recipient(Protocol):
  """Somebody for whom a data key is wrapped."""

  @property
  def id(self) -> str:
    """A public name: the kind, a colon, a fingerprint."""

  def wrap(self, data_key: bytes, context: bytes) -> Stanza:
    """Wraps a data key of 32 bytes, bound to a context.

    Returns:
      Strings and small integers; the envelope adds `id`.
    """


class Identity(Protocol):
  """Somebody who can unwrap a data key."""

  @property
  def id(self) -> str:
    """The id of the recipient that it answers to."""

  def unwrap(self, stanza: Stanza, context: bytes) -> bytes | None:
    """Returns the data key; None when the stanza is another's.

    Raises:
      CannotOpen: the stanza is for this identity and does not open.
      KeyringError: this identity may not be used, and why.
    """


class Private:
  """Base of what holds keys: no part of it shows, travels or is copied."""

  __slots__ = ()

  def __repr__(self) -> str:
    return f"<{type(self).__name__} {getattr(self, 'id', '')}>"

  def __reduce_ex__(self, protocol: Any) -> NoReturn:
    raise TypeError(f"a {type(self).__name__} is not pickled or copied")


def wrap_key(secret: Secret, data_key: bytes, context: bytes) -> bytes:
  """Wraps a data key with AES-256 key wrap with padding (RFC 5649).

  The wrapping key is derived from the secret for this context alone, so a
  wrapped key opens under no other context.

  Args:
    secret: what the wrapping key is derived from.
    data_key: 32 bytes.
    context: any bytes; they are not stored.

  Returns:
    40 bytes.

  Raises:
    ValueError: the data key has another size.

  Example:
    >>> secret, data_key = Secret.generate(), bytes(32)
    >>> wrapped = wrap_key(secret, data_key, b"model-a")
    >>> unwrap_key(secret, wrapped, b"model-a") == data_key
    True

  References:
    R. Housley and M. Dworkin, RFC 5649, 2009.
  """
  check_data_key(data_key)
  return keywrap.aes_key_wrap_with_padding(_kek(secret, context), data_key)


def unwrap_key(secret: Secret, wrapped: bytes, context: bytes) -> bytes:
  """Unwraps what `wrap_key` wrapped.

  Raises:
    CannotOpen: the secret or the context is wrong, or the bytes are damaged.
  """
  try:
    data_key = keywrap.aes_key_unwrap_with_padding(
      _kek(secret, context), wrapped
    )
  except keywrap.InvalidUnwrap:
    raise CannotOpen from None
  if len(data_key) != SECRET_BYTES:
    raise CannotOpen
  return data_key


def _kek(secret: Secret, context: bytes) -> bytes:
  digest = hashlib.sha256(context).hexdigest()
  return secret.derive(f"keyring/aes-kwp/{digest}", 32)


def check_data_key(data_key: bytes) -> None:
  """Raises a ValueError unless this can be a data key."""
  if not isinstance(data_key, bytes) or len(data_key) != SECRET_BYTES:
    raise ValueError(f"a data key is {SECRET_BYTES} bytes")


class SymmetricKey(Private):
  """A shared secret: recipient and identity in one.

  Example:
    >>> key = SymmetricKey(Secret.generate())
    >>> stanza = key.wrap(bytes(32), b"context")
    >>> key.unwrap(stanza | {"id": key.id}, b"context") == bytes(32)
    True
  """

  __slots__ = ("_secret", "id")

  def __init__(self, secret: Secret):
    """Makes a recipient of a secret.

    Args:
      secret: who holds it opens what is wrapped for it.
    """
    self._secret = secret
    self.id = f"aes:{secret.fingerprint()}"

  def wrap(self, data_key: bytes, context: bytes) -> Stanza:
    """Wraps a data key; see `wrap_key`."""
    return {"wrapped": encode(wrap_key(self._secret, data_key, context))}

  def unwrap(self, stanza: Stanza, context: bytes) -> bytes | None:
    """Returns the data key; None when the stanza is another's."""
    if stanza.get("id") != self.id:
      return None
    wrapped = field(stanza, "wrapped", bytes, _WRAPPED)
    return unwrap_key(self._secret, wrapped, context)


class Expiring:
  """A recipient whose access ends at a time that the envelope keeps.

  The time is authenticated and kept from strangers. It binds those who open
  with KeyJAX; who holds the key and writes software of their own is stopped
  by revocation (a new data key), not by a date.

  Example:
    >>> key = SymmetricKey(Secret.generate())
    >>> Expiring(key, "2030-01-01T00:00:00Z").id == key.id
    True
  """

  def __init__(self, recipient: Recipient, expires: str):
    """Limits a recipient.

    Args:
      recipient: any recipient.
      expires: a time by RFC 3339 with its zone, such as 2030-01-01T00:00:00Z.

    Raises:
      KeyringError: the time cannot be read.
    """
    self._recipient = recipient
    self.id = recipient.id
    parse_time(expires)
    self.expires = expires

  def wrap(self, data_key: bytes, context: bytes) -> Stanza:
    """Wraps a data key for the recipient."""
    return self._recipient.wrap(data_key, context)


def parse_time(text: str) -> datetime.datetime:
  """Reads a time that has a zone.

  Raises:
    KeyringError: it cannot be read.
  """
  try:
    time = datetime.datetime.fromisoformat(text)
  except (TypeError, ValueError):
    time = None
  if time is None or time.tzinfo is None:
    raise KeyringError("a time looks like 2030-01-01T00:00:00Z")
  return time
