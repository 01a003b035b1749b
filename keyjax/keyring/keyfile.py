"""Private keys as text: protected by a passphrase, plain, or PEM.

A protected key is one line of canonical JSON: the cost and salt of Argon2id,
and the key sealed (`keyjax.seal`) under the derived secret. A plain key is one
line `KEYJAX-SECRET-KIND:BASE64` with a checksum; scanners for leaked secrets
find the capitals. The 64 hexadecimal digits of `Secret.save` are read too. PEM
(PKCS #8) of OpenSSL is read for X25519 and RSA. Only `export_pem` writes it,
because a guess at a passphrase costs only 2,048 rounds of SHA-256 there, which
is too little to protect a passphrase that someone remembers.
"""

import os
import re
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives import serialization

from keyjax import private_files
from keyjax.errors import KeyringError, WrongPassphrase
from keyjax.keyring.encoding import (
  checksum,
  decode,
  dump,
  encode,
  encode_secret,
  field,
  parse,
  split_checksum,
)
from keyjax.keyring.pem import parse_pem
from keyjax.keyring.recipients import Identity, Private, kind_of, kinds
from keyjax.keyring.recipients.passphrase import (
  MAX_COST,
  SALT_BYTES,
  Cost,
  normalized,
  stretch,
)
from keyjax.keyring.recipients.symmetric import SymmetricKey
from keyjax.seal import SealError, seal, unseal
from keyjax.secrets import Secret

PrivateKey = Any
Ask = str | Callable[[], str] | None
MAX_KEY = 2**16
_PLAIN = "KEYJAX-SECRET-"
_HEX = re.compile(rb"[0-9a-fA-F]{64}")
_VERSION = 1


def as_identity(key: PrivateKey | Identity) -> Identity:
  """Return the identity of a private key.

  Args:
    key: Private key, or an identity, which is returned as it is.

  Raises:
    KeyringError: If the key signs, and opens nothing, or is not a key.

  Example:
    >>> identity = as_identity(Secret.generate())
    >>> identity, as_identity(identity) is identity
    (<SymmetricKey aes:...>, True)
  """
  try:
    kind = kind_of(key)
  except KeyringError:
    if callable(getattr(key, "unwrap", None)):
      return key
    raise
  if kind.identity is None:
    raise KeyringError("a signing key signs checkpoints; it opens none")
  return kind.identity(key)


def protect_key(
  key: PrivateKey,
  passphrase: str,
  cost: Cost = Cost(),  # noqa: B008
) -> str:
  """Return a private key as text that a passphrase opens.

  Args:
    key: Private key of any kind, or a `Secret`.
    passphrase: Text, not empty.
    cost: Cost of one guess.

  Raises:
    KeyringError: If the passphrase is empty, or the cost is refused.

  Example:
    >>> key, cheap = Secret.generate(), Cost(19456, 1, 1)
    >>> text = protect_key(key, "correct horse battery", cheap)
    >>> parse_key(text, "correct horse battery") == key
    True
  """
  kind, data = _reveal(key)
  salt = os.urandom(SALT_BYTES)
  secret = stretch(passphrase, salt, cost)
  sealed = seal(_file_key(secret), data, _context(kind))
  document = {
    **cost._asdict(),
    "keyjax": "key",
    "kind": kind,
    "salt": encode(salt),
    "sealed": encode(sealed),
    "version": _VERSION,
  }
  return dump(document).decode("ascii")


def format_key(key: PrivateKey) -> str:
  """Return a private key as plain text: anyone who reads it has the key."""
  kind, data = _reveal(key)
  return (
    f"{_PLAIN}{kind.upper()}:{encode(data + checksum(_PLAIN + kind, data))}"
  )


def parse_key(
  text: str | bytes | bytearray,
  passphrase: Ask = None,
  *,
  max_cost: Cost = MAX_COST,
) -> Any:
  """Read a private key in any of the three forms.

  Args:
    text: Text that `protect_key` or `format_key` returned, or PEM; UTF-8 or
      UTF-16, with or without a byte order mark.
    passphrase: Passphrase, or a function that asks for it when it is needed;
      composed and decomposed accents are the same in all forms.
    max_cost: Largest cost to spend on the passphrase; in PEM, an iteration of
      PBKDF2 counts as one KiB and pass of Argon2id.

  Returns:
    A `Secret`, `HpkePrivateKey`, `RsaIdentity`, `DeviceKeys` or `SigningKey`,
    or a key of another kind that was registered.

  Raises:
    WrongPassphrase: If the passphrase is wrong, or the text is damaged.
    KeyringError: If it is not a private key, or needs a passphrase.
  """
  if isinstance(text, str):
    data = encode_secret(text, "private key")
  else:
    data = bytes(text)
  if len(data) > MAX_KEY:
    raise KeyringError(f"{len(data)} bytes: no private key is that long")
  data = private_files.as_utf8(data).strip()
  if data.startswith(b"-----BEGIN"):
    return parse_pem(data, lambda: _ask(passphrase), max_cost)
  if data.startswith(b"{"):
    return _parse_protected(data, passphrase, max_cost)
  return _parse_plain(data)


def export_pem(key: PrivateKey, passphrase: str) -> str:
  """Return an X25519 or RSA key as encrypted PKCS #8, for OpenSSL.

  Args:
    key: Private key.
    passphrase: At least 20 random characters; see the module.

  Raises:
    KeyringError: If the passphrase is shorter, or PEM has no such kind of key.
  """
  if len(passphrase) < 20:
    raise KeyringError(
      "a PEM file needs a random passphrase of 20 characters or more"
    )
  kind = kind_of(key)
  if kind.to_openssl is None:
    raise KeyringError(f"OpenSSL reads no key of kind {kind.name}")
  encryption = serialization.BestAvailableEncryption(
    encode_secret(normalized(passphrase), "passphrase")
  )
  data = kind.to_openssl(key).private_bytes(
    encoding=serialization.Encoding.PEM,
    format=serialization.PrivateFormat.PKCS8,
    encryption_algorithm=encryption,
  )
  return data.decode("ascii")


def _reveal(key: PrivateKey) -> tuple[str, bytes]:
  """Return the name of the kind of a private key, and its bytes."""
  if isinstance(key, SymmetricKey):
    raise KeyringError(
      "a SymmetricKey has no key file: write the Secret that it was made of"
    )
  if hasattr(key, "sign") and not isinstance(key, Private):
    raise KeyringError(
      f"a {type(key).__name__} has no key file: write the keyring.SigningKey "
      "that it is of"
    )
  kind = kind_of(key)
  if kind.reveal is None:
    raise KeyringError(f"a key of kind {kind.name} has no key file")
  return kind.name, kind.reveal(key)


def _reader(kind: str) -> Callable[[bytes], PrivateKey] | None:
  return kinds()[kind].read if kind in kinds() else None


def _read(kind: str, data: bytes) -> PrivateKey:
  read = _reader(kind)
  assert read is not None  # Checked before anything is decrypted.
  try:
    return read(data)
  except ValueError:
    raise KeyringError(f"this is not a private key of kind {kind}") from None


def _instead(data: bytes) -> str:
  """Return what a text seems to be that is no private key, for an error."""
  if data.startswith(b"keyjax-"):
    return ": it is a public key"
  hint = private_files.other_reader(data)
  return hint if "keys.load" in hint else ""


def _parse_plain(data: bytes) -> PrivateKey:
  if _HEX.fullmatch(data):  # What `Secret.save` writes.
    return Secret(bytes.fromhex(data.decode("ascii")))
  name, colon, body = data.decode("ascii", "replace").partition(":")
  kind = name.removeprefix(_PLAIN).lower()
  if not (name.startswith(_PLAIN) and colon and _reader(kind)):
    raise KeyringError(
      f"this is not a private key of KeyJAX, nor PEM{_instead(data)}"
    )
  key = split_checksum(_PLAIN + kind, decode(body), "this private key")
  return _read(kind, key)


def _parse_protected(
  data: bytes, passphrase: Ask, max_cost: Cost
) -> PrivateKey:
  document = parse(data, "a private key", size=MAX_KEY, items=32)
  kind = field(document, "kind", str)
  if document.get("keyjax") != "key" or not _reader(kind):
    raise KeyringError("this is not a private key of KeyJAX")
  if field(document, "version", int) != _VERSION:
    raise KeyringError(
      f"a private key of another version than {_VERSION}, the one that this "
      "release of KeyJAX reads"
    )
  cost = Cost(*(field(document, name, int) for name in Cost._fields))
  cost.check_accepted(max_cost)
  salt = field(document, "salt", bytes, SALT_BYTES)
  sealed = field(document, "sealed", bytes)
  secret = stretch(_ask(passphrase), salt, cost)
  try:
    opened = unseal(_file_key(secret), sealed, _context(kind))
  except SealError:
    raise WrongPassphrase from None
  return _read(kind, opened)


def _ask(passphrase: Ask) -> str:
  if passphrase is None:
    raise KeyringError("this private key is protected: give its passphrase")
  return passphrase if isinstance(passphrase, str) else passphrase()


def _file_key(secret: Secret) -> bytes:
  return secret.derive("keyring/key-file", 32)


def _context(kind: str) -> bytes:
  return b"keyjax/key/1/" + kind.encode("ascii")
