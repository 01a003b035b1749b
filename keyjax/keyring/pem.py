"""Private keys as PEM (PKCS #8) of OpenSSL, for X25519 and RSA.

A file states what a guess at its passphrase costs, and anyone may have written
it: the cost is checked before it is spent. An iteration of PBKDF2 counts as one
KiB and pass of Argon2id, which takes about as long.

References:
  K. Moriarty et al., RFC 8018, "PKCS #5", 2017, appendix A.
  C. Percival and S. Josefsson, RFC 7914, "scrypt", 2016, section 7.
"""

import base64
import contextlib
import re
import unicodedata
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import serialization

from keyjax.errors import KeyringError, WrongPassphrase
from keyjax.keyring.encoding import encode_secret
from keyjax.keyring.recipients import kinds
from keyjax.keyring.recipients.passphrase import (
  Cost,
  check_iterations,
  check_scrypt,
  normalized,
)

_ENCRYPTED = re.compile(
  rb"-----BEGIN ENCRYPTED PRIVATE KEY-----\s([A-Za-z0-9+/=\s]*)"
  rb"-----END ENCRYPTED PRIVATE KEY-----"
)
_PBES2 = "1.2.840.113549.1.5.13"
_PBKDF2 = "1.2.840.113549.1.5.12"
_SCRYPT = "1.3.6.1.4.1.11591.4.11"
_NO_KEY = "this PEM holds no private key"


@asn1.sequence
class _Algorithm:
  oid: x509.ObjectIdentifier
  parameters: asn1.TLV


@asn1.sequence
class _EncryptedKey:
  algorithm: _Algorithm
  data: bytes


@asn1.sequence
class _Pbes2:
  derivation: _Algorithm
  cipher: _Algorithm


@asn1.sequence
class _Hash:
  oid: x509.ObjectIdentifier
  parameters: asn1.Null | None


@asn1.sequence
class _Pbkdf2:
  salt: bytes
  iterations: int
  length: int | None
  hash: _Hash | None


@asn1.sequence
class _Scrypt:
  salt: bytes
  n: int
  r: int
  p: int
  length: int | None


@asn1.sequence
class _Pbes1:
  salt: bytes
  iterations: int


def parse_pem(data: bytes, ask: Callable[[], str], max_cost: Cost) -> Any:
  """Read a private key.

  Args:
    data: Text, untrusted.
    ask: Function that returns the passphrase, called if one is needed.
    max_cost: Largest cost to spend on the passphrase.

  Raises:
    WrongPassphrase: If the passphrase is wrong, or the text is damaged.
    KeyringError: If it holds no such key, or the cost is refused.
  """
  key = decrypt(data, ask, max_cost)
  for kind in kinds().values():
    if kind.from_openssl and (found := kind.from_openssl(key)) is not None:
      return found
  raise KeyringError("this PEM holds neither an X25519 nor an RSA key")


def decrypt(data: bytes, ask: Callable[[], str], max_cost: Cost) -> Any:
  """Return the key object of `cryptography`, of any kind; see `parse_pem`."""
  load: Any = serialization.load_pem_private_key
  if b"ENCRYPTED PRIVATE KEY" in data:
    # Decode it here: what is checked is then what is decrypted.
    data = _checked(data, max_cost)
    load = serialization.load_der_private_key
  else:
    try:
      return load(data, None)
    except TypeError:  # It is encrypted as OpenSSL did before PKCS #8.
      pass
    except Exception:  # `cryptography` raises several types here.
      raise KeyringError(_NO_KEY) from None
  passphrase = ask()
  encode_secret(passphrase, "passphrase")
  # Other writers may have left the passphrase as it was typed.
  split = unicodedata.normalize("NFD", passphrase)
  for text in dict.fromkeys((normalized(passphrase), passphrase, split)):
    with contextlib.suppress(ValueError, TypeError, UnsupportedAlgorithm):
      return load(data, text.encode())
  raise WrongPassphrase


def _checked(data: bytes, max_cost: Cost) -> bytes:
  """Return the DER of an encrypted key whose cost is accepted."""
  found = _ENCRYPTED.search(data)
  try:
    der = base64.b64decode(b"".join(found[1].split()) if found else b"")
    check = _cost(asn1.decode_der(_EncryptedKey, der).algorithm)
  except ValueError:
    raise KeyringError(_NO_KEY) from None
  check(max_cost)
  return der


def _cost(algorithm: _Algorithm) -> Callable[[Cost], None]:
  """Return the check of what an algorithm costs.

  Raises:
    ValueError: If it is malformed, or of another kind.
  """
  oid = algorithm.oid.dotted_string
  parameters = algorithm.parameters
  if oid == _PBES2:
    derivation = parameters.parse(_Pbes2).derivation
    oid = derivation.oid.dotted_string
    parameters = derivation.parameters
  if oid == _SCRYPT:
    scrypt = parameters.parse(_Scrypt)
    return lambda most: check_scrypt(scrypt.n, scrypt.r, scrypt.p, most)
  form = _Pbkdf2 if oid == _PBKDF2 else _Pbes1
  iterations = parameters.parse(form).iterations
  return lambda most: check_iterations(iterations, most)
