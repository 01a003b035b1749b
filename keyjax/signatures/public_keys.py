"""Keys and certificates of signers, as PEM: elliptic curves only.

OpenSSF Model Signing takes ECDSA on P-256, P-384 and P-521. KeyJAX's own
signing keys (Ed25519, ML-DSA) sign sealed checkpoints and cards, not these.
"""

from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from keyjax.errors import KeyringError
from keyjax.keyring import MAX_COST, Cost, pem

_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_NEEDED = "a model is signed with an EC key on P-256, P-384 or P-521, as PEM"


def _no_passphrase() -> str:
  raise KeyringError("this private key needs a passphrase")


def read_signing_key(
  data: bytes,
  ask: Callable[[], str] = _no_passphrase,
  *,
  max_cost: Cost = MAX_COST,
) -> ec.EllipticCurvePrivateKey:
  """Read a private key that signs models.

  Args:
    data: PEM, untrusted.
    ask: Function that returns the passphrase, called if one is needed.
    max_cost: Largest cost to spend on the passphrase.

  Raises:
    WrongPassphrase: If the passphrase is wrong, or the text is damaged.
    KeyringError: If it holds no such key, or the cost is refused.
  """
  if b"KEYJAX-" in data:
    raise KeyringError(f"this is a private key of KeyJAX: {_NEEDED}")
  if b"PUBLIC KEY" in data or b"CERTIFICATE" in data:
    raise KeyringError("this holds no private key, which signing needs")
  key = pem.decrypt(data, ask, max_cost)
  if not isinstance(key, ec.EllipticCurvePrivateKey):
    raise KeyringError(f"this is another kind of private key: {_NEEDED}")
  _check_curve(key.curve)
  return key


def read_public_key(data: bytes) -> ec.EllipticCurvePublicKey:
  """Read the public key of a signer of models.

  Args:
    data: PEM, untrusted.

  Raises:
    KeyringError: If it holds another kind of key, a private one, or none.
  """
  if b"PRIVATE KEY" in data or b"KEYJAX-" in data:
    raise KeyringError(
      "this is a private key: give its public key, and give the private key to "
      "nobody"
    )
  if b"keyjax-" in data:
    raise KeyringError(f"this is a public key of KeyJAX: {_NEEDED}")
  if b"CERTIFICATE" in data:
    raise KeyringError(
      "this is a certificate, not a public key: give those of the authority "
      "that you trust (`roots`, --authority)"
    )
  try:
    key = serialization.load_pem_public_key(data)
  except (ValueError, UnsupportedAlgorithm):
    raise KeyringError(f"this holds no public key: {_NEEDED}") from None
  check_public_key(key)
  return key  # type: ignore[return-value]


def check_public_key(key: Any) -> None:
  """Raise a KeyringError unless a public key can verify signatures of models.

  Example:
    >>> check_public_key(ec.generate_private_key(ec.SECP256R1()).public_key())
  """
  if not isinstance(key, ec.EllipticCurvePublicKey):
    raise KeyringError(f"this is another kind of public key: {_NEEDED}")
  _check_curve(key.curve)


def _check_curve(curve: ec.EllipticCurve) -> None:
  if curve.name not in _CURVES:
    raise KeyringError(f"this key is on the curve {curve.name}: {_NEEDED}")


def read_certificates(data: bytes) -> list[x509.Certificate]:
  """Read certificates, in their order.

  Args:
    data: PEM, untrusted.

  Raises:
    KeyringError: If it holds none, or a private key.
  """
  if b"PRIVATE KEY" in data:
    raise KeyringError(
      "a private key is among these certificates: keep it in a file of its own"
    )
  try:
    return x509.load_pem_x509_certificates(data)
  except ValueError:
    raise KeyringError("this holds no certificate as PEM") from None


def public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
  """Return a public key as PEM, as bundles hash it to name the key."""
  return key.public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
  )


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
  """Return a private key as PEM, for the library alone."""
  return key.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
  )


def certificate_pem(certificates: list[x509.Certificate]) -> bytes:
  """Return certificates as PEM."""
  encoding = serialization.Encoding.PEM
  return b"".join(one.public_bytes(encoding) for one in certificates)
