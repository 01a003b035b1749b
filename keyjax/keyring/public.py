"""Public keys as one line of text: what a recipient sends to an owner."""

import hashlib

from keyjax.keyring.encoding import decode, encode
from keyjax.keyring.errors import KeyringError
from keyjax.keyring.hpke import KINDS, HpkePublicKey
from keyjax.keyring.rsa import RSA, RsaRecipient

PublicKey = HpkePublicKey | RsaRecipient
_PREFIX = "keyjax-"
_CHECK = 4
_MAX_TEXT = 8192


def format_recipient(recipient: PublicKey) -> str:
  """Returns `keyjax-KIND:BASE64`, with a checksum of four bytes.

  Example:
    >>> from keyjax.keyring import HpkePrivateKey
    >>> public = HpkePrivateKey.generate("x25519").public
    >>> text = format_recipient(public)
    >>> text[:14], parse_recipient(text) == public
    ('keyjax-x25519:', True)
  """
  data = recipient.data + _checksum(recipient.kind, recipient.data)
  return f"{_PREFIX}{recipient.kind}:{encode(data)}"


def parse_recipient(text: str) -> PublicKey:
  """Reads what `format_recipient` returned.

  Raises:
    KeyringError: it is not one, of an unknown kind, or misread.
  """
  kind, colon, body = text.strip().partition(":")
  kind = kind.removeprefix(_PREFIX)
  known = (*KINDS, RSA)
  if not text.strip().startswith(_PREFIX) or not colon or kind not in known:
    raise KeyringError(
      "a recipient looks like keyjax-x25519:...; the kinds are "
      f"{', '.join(known)}"
    )
  if len(body) > _MAX_TEXT:
    raise KeyringError(f"a recipient has at most {_MAX_TEXT} characters")
  data = decode(body)
  key, check = data[:-_CHECK], data[-_CHECK:]
  if check != _checksum(kind, key):
    raise KeyringError(f"this {_PREFIX}{kind} recipient is cut or misread")
  return RsaRecipient(key) if kind == RSA else HpkePublicKey(kind, key)


def _checksum(kind: str, data: bytes) -> bytes:
  return hashlib.sha256(f"{_PREFIX}{kind}:".encode() + data).digest()[:_CHECK]
