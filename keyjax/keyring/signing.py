"""Keys that sign checkpoints, as files and as text.

Ed25519, or ML-DSA-65 for signatures that must resist a quantum computer. A
signing key opens nothing: anyone who reads it can only sign as its owner.

References:
  S. Josefsson and I. Liusvaara, RFC 8032 (Ed25519), 2017.
  NIST, FIPS 204 (ML-DSA), 2024.
"""

from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa

from keyjax.errors import KeyringError
from keyjax.keyring.encoding import fingerprint, format_line, parse_line
from keyjax.keyring.recipients import Kind, Private, register

ED25519 = "ed25519"
ML_DSA = "ml-dsa-65"
SIGNING = (ED25519, ML_DSA)
_SEED = 32
_PRIVATE: dict[str, Any] = {
  ED25519: ed25519.Ed25519PrivateKey.from_private_bytes,
  ML_DSA: mldsa.MLDSA65PrivateKey.from_seed_bytes,
}
_PUBLIC: dict[str, Any] = {
  ED25519: ed25519.Ed25519PublicKey,
  ML_DSA: mldsa.MLDSA65PublicKey,
}
VerifyKey = ed25519.Ed25519PublicKey | mldsa.MLDSA65PublicKey


class SigningKey(Private):
  """A private key that signs.

  Attributes:
    kind: "ed25519" or "ml-dsa-65".
    id: Public name: the kind, a colon, a fingerprint.
    private: Key object of `cryptography`, for `keyjax.checkpoint.save`.
    public: Its public key, for `keyjax.checkpoint.restore`.

  Example:
    >>> key = SigningKey.generate("ed25519")
    >>> text = format_verify_key(key.public)
    >>> parse_verify_key(text).verify(key.private.sign(b"model"), b"model")
  """

  __slots__ = ("_seed", "id", "kind", "private", "public")

  def __init__(self, kind: str, seed: bytes):
    """Read a private key; `generate` makes a fresh one.

    Args:
      kind: "ed25519" or "ml-dsa-65".
      seed: 32 bytes.

    Raises:
      KeyringError: If the kind is unknown, or the key has another size.
    """
    if kind not in _PRIVATE or len(seed) != _SEED:
      raise KeyringError(
        f"a signing key is of kind {' or '.join(SIGNING)} and has {_SEED} bytes"
      )
    self.kind = kind
    self._seed = bytes(seed)
    self.private = _PRIVATE[kind](self._seed)
    self.public: VerifyKey = self.private.public_key()
    self.id = verify_key_id(self.public)

  @classmethod
  def generate(cls, kind: str = ED25519) -> "SigningKey":
    """Return a fresh key from the operating system."""
    made: Any = ed25519.Ed25519PrivateKey
    if kind == ML_DSA:
      made = mldsa.MLDSA65PrivateKey
    return cls(kind, made.generate().private_bytes_raw())

  def reveal(self) -> bytes:
    """Return the private key itself, for a key file."""
    return self._seed


def verify_key_id(key: VerifyKey) -> str:
  """Return the public name of a key: the kind, a colon, a fingerprint."""
  return f"{signature_kind(key)}:{fingerprint(key.public_bytes_raw())}"


def signature_kind(key: VerifyKey) -> str:
  """Return "ed25519" or "ml-dsa-65".

  Raises:
    KeyringError: If it is not a key that verifies signatures.
  """
  for name, made in _PUBLIC.items():
    if isinstance(key, made):
      return name
  raise KeyringError(f"a {type(key).__name__} does not verify signatures")


def format_verify_key(key: VerifyKey) -> str:
  """Return `keyjax-KIND:BASE64`, with a checksum of four bytes."""
  return format_line(signature_kind(key), key.public_bytes_raw())


def parse_verify_key(text: str) -> VerifyKey:
  """Read what `format_verify_key` returned.

  Raises:
    KeyringError: If it is not such a key, of an unknown kind, or misread.
  """
  kind, data = parse_line(text, SIGNING, "a verify key")
  try:
    return _PUBLIC[kind].from_public_bytes(data)
  except (ValueError, UnsupportedAlgorithm):
    raise KeyringError(f"this is not a public key of kind {kind}") from None


def _register(*, name: str, summary: str) -> None:
  register(
    Kind(
      name=name,
      summary=summary,
      key_type=SigningKey,
      generate=lambda: SigningKey.generate(name),
      read=lambda seed: SigningKey(name, seed),
      reveal=SigningKey.reveal,
    )
  )


_register(name=ED25519, summary="to sign")
_register(
  name=ML_DSA, summary="to sign, also secure against future quantum computers"
)
