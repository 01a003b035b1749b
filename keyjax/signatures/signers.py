"""Public names of signers."""

import hashlib
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from keyjax.signatures import public_keys


def key_hint(key: ec.EllipticCurvePublicKey) -> str:
  """Return the name of a key in bundles: SHA-256 of its PEM, in hexadecimal."""
  return hashlib.sha256(public_keys.public_pem(key)).hexdigest()


def signer_of(
  key: ec.EllipticCurvePublicKey | None,
  certificates: Sequence[x509.Certificate],
) -> str:
  """Return the public name of a signer.

  Args:
    key: Public key; it may be None if there are certificates.
    certificates: The signer's first; none if a key signs alone.

  Returns:
    `key sha256:HEX`, or `SUBJECT, certificate sha256:HEX`.
  """
  if certificates:
    one = certificates[0]
    digest = one.fingerprint(hashes.SHA256()).hex()
    return f"{one.subject.rfc4514_string()}, certificate sha256:{digest}"
  assert key is not None
  return f"key sha256:{key_hint(key)}"
