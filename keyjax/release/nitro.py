"""Attestation documents of AWS Nitro Enclaves, as evidence.

    [evidence.enclaves]
    kind = "nitro"
    root = "nitro_root.pem"         # AWS's root certificate
    [evidence.enclaves.pcrs]
    0 = ["..."]                     # SHA-384 of the image, 96 digits
    8 = ["..."]                     # ... of the certificate that signed it

The enclave asks its hypervisor for a document with the server's nonce, as the
64 ASCII digits that it was given, and the caller sends it in base64. It is a
COSE_Sign1 message (RFC 9052) in CBOR (RFC 8949) with the certificate that
signed it, which is valid for three hours.

**Guarantees.** A document is refused unless its certificate chains to the root
and is valid now, the signature is right, the nonce is that of this request, and
each PCR of the policy has one of the listed values. An enclave in debug mode
has zeros in PCR 0, 1 and 2, which a policy cannot list.

**Known breaks.** AWS is trusted, and certificates that it revoked are not asked
for. The nonce binds a document to a request; whether only the enclave holds the
caller's keys depends on how they were put there.

References:
  Amazon, "AWS Nitro Enclaves: verifying the root of trust", 2025.
"""

import base64
import datetime
import pathlib
from collections.abc import Mapping
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509 import verification

from keyjax.errors import KeyringError
from keyjax.release import cbor

_MAX_SIZE = 16384
_ALGORITHM = {1: -35}  # ECDSA with SHA-384.
_SIGNATURE = 96
_PCRS = range(32)
_DIGITS = 96
_REFUSED = (
  ValueError,
  UnsupportedAlgorithm,
  verification.VerificationError,
  x509.DuplicateExtension,
  x509.InvalidVersion,
  x509.UnsupportedGeneralNameType,
)
_TAG = b"\xd2"  # COSE_Sign1; AWS leaves it out.


class NitroEvidence:
  """A verifier of attestation documents."""

  def __init__(
    self, *, root: pathlib.Path, pcrs: Mapping[int, list[str]]
  ) -> None:
    """Describe which documents to accept.

    Args:
      root: File with AWS's root certificate, PEM; it is read each time.
      pcrs: Accepted values of each register, in hexadecimal.

    Raises:
      KeyringError: If there is no register, or a value cannot be one.
    """
    if not pcrs:
      raise KeyringError("evidence of kind nitro needs the values of a PCR")
    for number, values in pcrs.items():
      if number not in _PCRS or not isinstance(values, list) or not values:
        raise KeyringError("a PCR has a number below 32 and a list of values")
      if not all(map(_is_measurement, values)):
        raise KeyringError(
          f"PCR {number}: a value has {_DIGITS} hexadecimal digits, not all 0"
        )
    self._root = root
    self._pcrs = {n: [x.lower() for x in xs] for n, xs in pcrs.items()}

  def verify(self, evidence: bytes, *, nonce: str, caller: str) -> None:
    """Accept a document, or raise a KeyringError; see `Evidence`."""
    try:
      protected, payload, signature = _parts(evidence)
      found = _document(payload)
    except (ValueError, TypeError, KeyError):
      raise KeyringError("the evidence is no attestation document") from None
    leaf = self._trusted(found["certificate"], found["cabundle"])
    _check_signature(leaf, protected, payload, signature)
    if found.get("nonce") != nonce.encode():
      raise KeyringError("the evidence was made for another request")
    for number, accepted in self._pcrs.items():
      if found["pcrs"].get(number, b"").hex() not in accepted:
        raise KeyringError(
          f"the evidence has no accepted value of PCR {number}"
        )

  def _trusted(self, leaf: bytes, bundle: list[bytes]) -> x509.Certificate:
    """Return the certificate, if it chains to the root now."""
    try:
      root = x509.load_pem_x509_certificate(self._root.read_bytes())
    except OSError as error:
      raise KeyringError(f"the root cannot be read: {error.strerror}") from None
    except ValueError:
      raise KeyringError("the root is no certificate") from None
    policy = (
      verification.PolicyBuilder()
      .store(verification.Store([root]))
      .time(datetime.datetime.now(datetime.UTC))
      .extension_policies(
        ca_policy=verification.ExtensionPolicy.webpki_defaults_ca(),
        ee_policy=verification.ExtensionPolicy.permit_all(),
      )
    )
    try:
      certificate = x509.load_der_x509_certificate(leaf)
      others = [x509.load_der_x509_certificate(x) for x in bundle]
      policy.build_client_verifier().verify(certificate, others)
    except _REFUSED:
      raise KeyringError(
        "the certificate of the evidence is not of this root, or not valid now"
      ) from None
    return certificate


def _parts(evidence: bytes) -> tuple[bytes, bytes, bytes]:
  """Return protected header, payload and signature of a COSE_Sign1 message.

  Raises:
    ValueError, TypeError: If it is none.
  """
  if len(evidence) > _MAX_SIZE:
    raise ValueError("too long")
  data = base64.b64decode(evidence, validate=True)
  protected, _, payload, signature = cbor.decode(data.removeprefix(_TAG))
  if not all(type(x) is bytes for x in (protected, payload, signature)):
    raise ValueError("other types")
  if cbor.decode(protected) != _ALGORITHM or len(signature) != _SIGNATURE:
    raise ValueError("another algorithm")
  return protected, payload, signature


def _document(payload: bytes) -> dict[Any, Any]:
  """Return the fields of a document, of which those that are used are checked.

  Raises:
    ValueError, TypeError, KeyError: If it is none.
  """
  found = cbor.decode(payload)
  kinds = {"certificate": bytes, "cabundle": list, "pcrs": dict}
  if found["digest"] != "SHA384" or any(
    type(found[name]) is not kind for name, kind in kinds.items()
  ):
    raise ValueError("other fields")
  if not all(type(x) is bytes for x in found["cabundle"]):
    raise ValueError("a bundle")
  if not all(type(x) is bytes for x in found["pcrs"].values()):
    raise ValueError("registers")
  return found


def _check_signature(
  leaf: x509.Certificate, protected: bytes, payload: bytes, signature: bytes
) -> None:
  signed = b"\x84\x6aSignature1" + cbor.octets(protected) + b"\x40"
  signed += cbor.octets(payload)
  half = _SIGNATURE // 2
  r, s = (int.from_bytes(x) for x in (signature[:half], signature[half:]))
  key = leaf.public_key()
  try:
    if not isinstance(key, ec.EllipticCurvePublicKey):
      raise InvalidSignature
    algorithm = ec.ECDSA(hashes.SHA384())
    key.verify(utils.encode_dss_signature(r, s), signed, algorithm)
  except InvalidSignature:
    raise KeyringError("the signature of the evidence is wrong") from None


def _is_measurement(value: Any) -> bool:
  """Return whether this is a PCR's value, and not that of debug mode."""
  digits = set("0123456789abcdefABCDEF")
  return (
    isinstance(value, str)
    and len(value) == _DIGITS
    and set(value) <= digits
    and set(value) != {"0"}
  )


def read_table(table: Mapping[str, Any], folder: pathlib.Path) -> NitroEvidence:
  """Return the verifier that a table of the policy describes.

  Raises:
    KeyringError: If a field is wrong.
  """
  if set(table) != {"kind", "root", "pcrs"}:
    raise KeyringError("evidence of kind nitro has the fields kind, pcrs, root")
  root, pcrs = table["root"], table["pcrs"]
  if not isinstance(root, str) or not root or not isinstance(pcrs, dict):
    raise KeyringError("root of evidence is a text, and its pcrs are a table")
  if not all(name.isascii() and name.isdigit() for name in pcrs):
    raise KeyringError("a PCR is named by its number")
  return NitroEvidence(
    root=folder / root, pcrs={int(name): x for name, x in pcrs.items()}
  )
