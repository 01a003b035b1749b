"""A shared secret as a recipient, and the key wrapping that others use."""

import hashlib

from cryptography.hazmat.primitives import keywrap

from keyjax.errors import CannotOpen
from keyjax.keyring.encoding import encode, field
from keyjax.keyring.recipients import (
  Kind,
  Private,
  Stanza,
  check_data_key,
  register,
)
from keyjax.secrets import SECRET_BYTES, Secret, require_secret

WRAPPED_BYTES = SECRET_BYTES + 8


def wrap_key(secret: Secret, data_key: bytes, context: bytes) -> bytes:
  """Wrap a data key with AES-256 key wrap with padding (RFC 5649).

  The wrapping key is derived from the secret for this context alone, so a
  wrapped key opens under no other context.

  Args:
    secret: Secret from which the wrapping key is derived.
    data_key: 32 bytes.
    context: Any bytes; they are not stored.

  Returns:
    40 bytes.

  Raises:
    ValueError: If the data key has another size.

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
  """Unwrap a data key that `wrap_key` wrapped.

  Raises:
    CannotOpen: If the secret or the context is wrong, or the bytes are
      damaged.
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
    """Make a recipient of a secret.

    Args:
      secret: Whoever holds it opens everything that is wrapped for it.
    """
    require_secret(secret, "SymmetricKey")
    self._secret = secret
    self.id = f"aes:{secret.fingerprint()}"

  def wrap(self, data_key: bytes, context: bytes) -> Stanza:
    """Wrap a data key; see `wrap_key`."""
    return {"wrapped": encode(wrap_key(self._secret, data_key, context))}

  def unwrap(self, stanza: Stanza, context: bytes) -> bytes | None:
    """Return the data key, or None if the stanza is for another identity."""
    if stanza.get("id") != self.id:
      return None
    wrapped = field(stanza, "wrapped", bytes, WRAPPED_BYTES)
    return unwrap_key(self._secret, wrapped, context)


register(
  Kind(
    name="secret",
    summary="a shared key, or the root of keyrings; `split` backs it up",
    key_type=Secret,
    generate=Secret.generate,
    read=Secret,
    reveal=lambda secret: secret._bytes,
    identity=SymmetricKey,
    recipient=SymmetricKey,
  )
)
