"""Signatures of checkpoints: who wrote it, which no recipient can forge.

The signature covers the sealed manifest and the checkpoint's id; a signed
manifest holds the SHA-256 of every message, so it covers all of the data. It
is itself sealed, so that a stranger does not learn who signed.

References:
  S. Josefsson and I. Liusvaara, RFC 8032 (Ed25519), 2017.
  NIST, FIPS 204 (ML-DSA), 2024.
"""

from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa

from keyjax import seal
from keyjax.checkpoint.errors import CheckpointContentError
from keyjax.checkpoint.format.manifest import context
from keyjax.keyring import KeyringError
from keyjax.keyring.data_keys import leaf_key
from keyjax.keyring.encoding import dump, encode, field, parse

Signer = ed25519.Ed25519PrivateKey | mldsa.MLDSA65PrivateKey
VerifyKey = ed25519.Ed25519PublicKey | mldsa.MLDSA65PublicKey
_PADDED = 6000
SIZE = seal.size_of_sealed(_PADDED)
_SIGNERS = {
  "ed25519": ed25519.Ed25519PrivateKey,
  "ml-dsa-65": mldsa.MLDSA65PrivateKey,
}
_VERIFIERS = {
  "ed25519": ed25519.Ed25519PublicKey,
  "ml-dsa-65": mldsa.MLDSA65PublicKey,
}


def _name(key: Any, known: dict[str, Any]) -> str:
  for name, kind in known.items():
    if isinstance(key, kind):
      return name
  raise TypeError(
    f"checkpoints are signed with Ed25519 or ML-DSA-65, not with a "
    f"{type(key).__name__}"
  )


def check_signer(signer: Signer | None) -> None:
  """Raises a TypeError for a key that cannot sign."""
  if signer is not None:
    _name(signer, _SIGNERS)


def sign(
  signer: Signer | None, data_key: bytes, checkpoint: str, manifest: bytes
) -> bytes:
  """Returns the sealed signature, of `SIZE` bytes; of nobody for None.

  Args:
    signer: a private key.
    data_key: the checkpoint's.
    checkpoint: its id.
    manifest: the sealed manifest.
  """
  made = {"algorithm": "none", "signature": ""}
  if signer is not None:
    signature = signer.sign(_message(checkpoint, manifest))
    made = {
      "algorithm": _name(signer, _SIGNERS),
      "signature": encode(signature),
    }
  key = leaf_key(data_key, "signature", "")
  return seal.seal(
    key, dump(made).ljust(_PADDED), context("signature", checkpoint)
  )


def check(
  verify_key: VerifyKey,
  data_key: bytes,
  checkpoint: str,
  manifest: bytes,
  sealed: bytes,
) -> None:
  """Checks the signature of a manifest.

  Raises:
    CheckpointError: there is none, or not this one's.
    TypeError: the key is of no known kind.
  """
  kind = _name(verify_key, _VERIFIERS)
  found = read(data_key, checkpoint, sealed)
  algorithm = field(found, "algorithm", str)
  if algorithm == "none":
    raise CheckpointContentError("this checkpoint is not signed")
  try:
    if algorithm != kind:
      raise InvalidSignature
    signature = field(found, "signature", bytes)
    verify_key.verify(signature, _message(checkpoint, manifest))
  except (InvalidSignature, KeyringError):
    raise CheckpointContentError(
      "this checkpoint was not signed with the key that is expected"
    ) from None


def read(data_key: bytes, checkpoint: str, sealed: bytes) -> dict[str, Any]:
  """Returns the fields of a sealed signature, which is not checked.

  Raises:
    CheckpointError: it does not open.
  """
  key = leaf_key(data_key, "signature", "")
  try:
    data = seal.unseal(key, sealed, context("signature", checkpoint))
    return parse(data.rstrip(b" "), "a signature", size=_PADDED, items=8)
  except (seal.SealError, KeyringError):
    raise CheckpointContentError(
      "the signature does not open: it is damaged, or of another checkpoint"
    ) from None


def _message(checkpoint: str, manifest: bytes) -> bytes:
  return context("signed", checkpoint) + b"\x00" + manifest
