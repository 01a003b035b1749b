"""Private keys as text: protected by a passphrase, plain, or PEM.

A protected key is one line of canonical JSON: the cost and salt of Argon2id,
and the key sealed (`keyjax.seal`) under what comes out. A plain key is one line
`KEYJAX-SECRET-KIND:BASE64` with a checksum; scanners for leaked secrets find
the capitals. The 64 hexadecimal digits of `Secret.save` are read too. PEM (PKCS
#8) of OpenSSL is read for X25519 and RSA; it is written by `export_pem` alone,
because OpenSSL's own encryption there costs a guess 2,048 rounds of SHA-256 and
a passphrase of a person does not survive that.
"""

import os
import re
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from keyjax.errors import KeyringError, WrongPassphrase
from keyjax.keyring.encoding import decode, dump, encode, field, parse
from keyjax.keyring.recipients.base import Identity, SymmetricKey
from keyjax.keyring.recipients.broadcast import DeviceKeys
from keyjax.keyring.recipients.hpke import HYBRID, X25519, HpkePrivateKey
from keyjax.keyring.recipients.passphrase import SALT, Cost, stretch
from keyjax.keyring.recipients.rsa import RSA, RsaIdentity
from keyjax.keyring.signing import ED25519, ML_DSA, SigningKey
from keyjax.keyring.tagged import CHECK, checksum
from keyjax.keys import Secret
from keyjax.seal import SealError, seal, unseal

PrivateKey = Secret | HpkePrivateKey | RsaIdentity | DeviceKeys | SigningKey
Ask = str | Callable[[], str] | None
MAX_KEY = 2**16
_PLAIN = "KEYJAX-SECRET-"
_HEX = re.compile(rb"[0-9a-fA-F]{64}")
_VERSION = 1

_READERS: dict[str, Callable[[bytes], PrivateKey]] = {
  "secret": Secret,
  X25519: lambda data: HpkePrivateKey(X25519, data),
  HYBRID: lambda data: HpkePrivateKey(HYBRID, data),
  RSA: lambda data: RsaIdentity(_rsa(data)),
  "device": DeviceKeys.read,
  ED25519: lambda data: SigningKey(ED25519, data),
  ML_DSA: lambda data: SigningKey(ML_DSA, data),
}


def as_identity(key: PrivateKey) -> Identity:
  """Returns what opens envelopes with a key.

  Raises:
    KeyringError: the key signs, and opens nothing.

  Example:
    >>> as_identity(Secret.generate())
    <SymmetricKey aes:...>
  """
  if isinstance(key, SigningKey):
    raise KeyringError("a signing key signs checkpoints; it opens none")
  return SymmetricKey(key) if isinstance(key, Secret) else key


def protect_key(
  key: PrivateKey,
  passphrase: str,
  cost: Cost = Cost(),  # noqa: B008
) -> str:
  """Returns a key as text that opens with a passphrase.

  Args:
    key: any private key of this package, or a `Secret`.
    passphrase: not empty.
    cost: of one guess.

  Raises:
    KeyringError: the passphrase is empty, or the cost is refused.

  Example:
    >>> key, cheap = Secret.generate(), Cost(19456, 1, 1)
    >>> text = protect_key(key, "correct horse battery", cheap)
    >>> parse_key(text, "correct horse battery") == key
    True
  """
  kind, data = _reveal(key)
  salt = os.urandom(SALT)
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
  """Returns a key as plain text: whoever reads it has the key."""
  kind, data = _reveal(key)
  return (
    f"{_PLAIN}{kind.upper()}:{encode(data + checksum(_PLAIN + kind, data))}"
  )


def parse_key(text: str | bytes | bytearray, passphrase: Ask = None) -> Any:
  """Reads a private key in any of the three forms.

  Args:
    text: what `protect_key` or `format_key` returned, or PEM.
    passphrase: what opens it, or a function that asks for it when needed.

  Returns:
    A `Secret`, `HpkePrivateKey`, `RsaIdentity`, `DeviceKeys` or `SigningKey`.

  Raises:
    WrongPassphrase: the passphrase is wrong, or the text is damaged.
    KeyringError: it is not a private key, or needs a passphrase.
  """
  data = text.encode("utf-8") if isinstance(text, str) else bytes(text)
  data = data.strip()
  if len(data) > MAX_KEY:
    raise KeyringError(f"{len(data)} bytes: no private key is that long")
  if data.startswith(b"-----BEGIN"):
    return _parse_pem(data, passphrase)
  if data.startswith(b"{"):
    return _parse_protected(data, passphrase)
  return _parse_plain(data)


def export_pem(key: HpkePrivateKey | RsaIdentity, passphrase: str) -> str:
  """Returns an X25519 or RSA key as encrypted PKCS #8, for OpenSSL.

  Args:
    key: the key.
    passphrase: at least 20 characters, random: see the module.

  Raises:
    KeyringError: the passphrase is shorter, or PEM has no such kind of key.
  """
  if len(passphrase) < 20:
    raise KeyringError(
      "a PEM file needs a random passphrase of 20 characters or more"
    )
  encryption = serialization.BestAvailableEncryption(passphrase.encode())
  if key.kind == X25519:
    private: Any = X25519PrivateKey.from_private_bytes(key.reveal())
  elif key.kind == RSA:
    private = _rsa(key.reveal())
  else:
    raise KeyringError(f"OpenSSL reads no key of kind {key.kind}")
  return private.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
  ).decode("ascii")


def _reveal(key: PrivateKey) -> tuple[str, bytes]:
  if isinstance(key, Secret):
    return "secret", key._bytes
  if isinstance(key, DeviceKeys):
    return "device", key.reveal()
  return key.kind, key.reveal()


def _parse_plain(data: bytes) -> PrivateKey:
  if _HEX.fullmatch(data):  # What `Secret.save` writes.
    return Secret(bytes.fromhex(data.decode("ascii")))
  name, colon, body = data.decode("ascii", "replace").partition(":")
  kind = name.removeprefix(_PLAIN).lower()
  if not (name.startswith(_PLAIN) and colon and kind in _READERS):
    raise KeyringError("this is not a private key of KeyJAX, nor PEM")
  raw = decode(body)
  key, check = raw[:-CHECK], raw[-CHECK:]
  if check != checksum(_PLAIN + kind, key):
    raise KeyringError("this private key is cut or misread")
  return _read(kind, key)


def _read(kind: str, data: bytes) -> PrivateKey:
  try:
    return _READERS[kind](data)
  except ValueError:
    raise KeyringError(f"this is not a private key of kind {kind}") from None


def _parse_protected(data: bytes, passphrase: Ask) -> PrivateKey:
  document = parse(data, "a private key", size=MAX_KEY, items=32)
  kind = field(document, "kind", str)
  if document.get("keyjax") != "key" or kind not in _READERS:
    raise KeyringError("this is not a private key of KeyJAX")
  if field(document, "version", int) != _VERSION:
    raise KeyringError(
      f"a private key of another version than {_VERSION}, the one that this "
      "release of KeyJAX reads"
    )
  cost = Cost(*(field(document, name, int) for name in Cost._fields)).check()
  salt = field(document, "salt", bytes, SALT)
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


def _parse_pem(data: bytes, passphrase: Ask) -> PrivateKey:
  load = serialization.load_pem_private_key
  try:
    key = load(data, None)
  except TypeError:  # It is encrypted.
    key = None
  except Exception:  # The library raises several kinds here.
    raise KeyringError("this PEM holds no private key") from None
  if key is None:
    try:
      key = load(data, _ask(passphrase).encode())
    except ValueError:
      raise WrongPassphrase from None
  if isinstance(key, RSAPrivateKey):
    return RsaIdentity(key)
  if isinstance(key, X25519PrivateKey):
    return HpkePrivateKey(X25519, key.private_bytes_raw())
  raise KeyringError("this PEM holds neither an X25519 nor an RSA key")


def _rsa(data: bytes) -> RSAPrivateKey:
  key = serialization.load_der_private_key(data, None)
  if not isinstance(key, RSAPrivateKey):
    raise KeyringError("this is not an RSA key")
  return key


def _file_key(secret: Secret) -> bytes:
  return secret.derive("keyring/key-file", 32)


def _context(kind: str) -> bytes:
  return b"keyjax/key/1/" + kind.encode("ascii")
