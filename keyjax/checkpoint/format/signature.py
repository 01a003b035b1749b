"""Signatures of checkpoints: proof of the author that no recipient can forge.

The signature covers the sealed manifest and the checkpoint's id. A signed
manifest holds the SHA-256 of every message, so the signature covers all of the
data. It is itself sealed, so that outsiders do not learn who signed.

References:
  S. Josefsson and I. Liusvaara, RFC 8032 (Ed25519), 2017.
  NIST, FIPS 204 (ML-DSA), 2024.
"""

from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa

from keyjax import seal
from keyjax.checkpoint.errors import (
  CheckpointContentError,
  CheckpointSignatureError,
)
from keyjax.checkpoint.format.manifest import message_context
from keyjax.errors import KeyringError
from keyjax.keyring.data_keys import leaf_key
from keyjax.keyring.encoding import dump, encode, field, parse
from keyjax.keyring.signing import SigningKey

Signer = ed25519.Ed25519PrivateKey | mldsa.MLDSA65PrivateKey
VerifyKey = ed25519.Ed25519PublicKey | mldsa.MLDSA65PublicKey
_PADDED_SIZE = 6000
SEALED_SIZE = seal.size_of_sealed(_PADDED_SIZE)
_SIGNERS = {
  "ed25519": ed25519.Ed25519PrivateKey,
  "ml-dsa-65": mldsa.MLDSA65PrivateKey,
}
_VERIFIERS = {
  "ed25519": ed25519.Ed25519PublicKey,
  "ml-dsa-65": mldsa.MLDSA65PublicKey,
}


def _algorithm(key: Any, known: dict[str, Any]) -> str:
  for name, kind in known.items():
    if isinstance(key, kind):
      return name
  hint = ""
  if isinstance(key, SigningKey):
    hint = f": give its .{'private' if known is _SIGNERS else 'public'}"
  raise TypeError(
    "checkpoints and data are signed with Ed25519 or ML-DSA-65, not with a "
    f"{type(key).__name__}{hint}"
  )


def check_signer(signer: Signer | None) -> None:
  """Raise a TypeError for a key that cannot sign."""
  if signer is not None:
    _algorithm(signer, _SIGNERS)


def sign(
  signer: Signer | None, data_key: bytes, checkpoint: str, manifest: bytes
) -> bytes:
  """Return the sealed signature, of `SEALED_SIZE` bytes.

  Args:
    signer: Private key; None for a record without a signature.
    data_key: Data key of the checkpoint.
    checkpoint: Id of the checkpoint.
    manifest: Sealed manifest.
  """
  record = {"algorithm": "none", "signature": ""}
  if signer is not None:
    signature = signer.sign(_signed_bytes(checkpoint, manifest))
    record = {
      "algorithm": _algorithm(signer, _SIGNERS),
      "signature": encode(signature),
    }
  key = leaf_key(data_key, "signature", "")
  return seal.seal(
    key,
    dump(record).ljust(_PADDED_SIZE),
    message_context("signature", checkpoint),
  )


def verify_signature(
  verify_key: VerifyKey,
  data_key: bytes,
  checkpoint: str,
  manifest: bytes,
  sealed: bytes,
  what: str = "checkpoint",
) -> None:
  """Verify the signature of a manifest.

  Args:
    verify_key: Public key whose signature is required.
    data_key: Data key of the checkpoint.
    checkpoint: Id of the checkpoint.
    manifest: Sealed manifest.
    sealed: Sealed signature.
    what: What was signed, for the error messages.

  Raises:
    CheckpointSignatureError: If there is no signature, or not by this key.
    CheckpointContentError: If what should be the signature does not open.
    TypeError: If the key is of an unknown kind.
  """
  expected = _algorithm(verify_key, _VERIFIERS)
  record = read_signature(data_key, checkpoint, sealed, what)
  algorithm = record["algorithm"]
  if algorithm == "none":
    raise CheckpointSignatureError(f"this {what} is not signed")
  try:
    if algorithm != expected:
      raise InvalidSignature
    signature = field(record, "signature", bytes)
    verify_key.verify(signature, _signed_bytes(checkpoint, manifest))
  except (InvalidSignature, KeyringError):
    raise CheckpointSignatureError(
      f"this {what} was not signed with the expected key"
    ) from None


def read_signature(
  data_key: bytes, checkpoint: str, sealed: bytes, what: str = "checkpoint"
) -> dict[str, Any]:
  """Return the fields of a sealed signature without verifying it.

  Raises:
    CheckpointContentError: If it does not open.
  """
  key = leaf_key(data_key, "signature", "")
  try:
    data = seal.unseal(key, sealed, message_context("signature", checkpoint))
    record = parse(data.rstrip(b" "), "a signature", size=_PADDED_SIZE, items=8)
    field(record, "algorithm", str)
    return record
  except (seal.SealError, KeyringError):
    raise CheckpointContentError(
      f"the signature does not open: it is damaged, or of another {what}"
    ) from None


def _signed_bytes(checkpoint: str, manifest: bytes) -> bytes:
  return message_context("signed", checkpoint) + b"\x00" + manifest
