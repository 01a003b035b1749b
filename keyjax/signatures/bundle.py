"""The file of a signature: a Sigstore bundle, untrusted until it verifies.

Its form is checked here before the library sees it, because the library reads
a file of any size, takes the first of several signatures, and answers odd input
with errors of many types. Nothing here is authenticated.
"""

import base64
import json
import os
from typing import Any, NamedTuple

from cryptography import x509

from keyjax.errors import ContentError
from keyjax.regular_files import open_file
from keyjax.signatures.errors import ModelSignatureError

# A statement has about 200 bytes for each file.
MAX_BYTES = 1 << 26
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
# Names in statements, by what the library calls them.
_HASHES = {
  "sha256": "sha256",
  "blake2b": "blake2",
  "blake2": "blake2",
  "blake3": "blake3",
}


class Bundle(NamedTuple):
  """What a bundle says.

  Attributes:
    document: The JSON object, as it was read.
    certificates: Of the signer and those above; empty if a key signed.
    name: The model's name when it was signed; it says nothing more.
    hash_type: How files are hashed: "sha256", "blake2" or "blake3".
    shard_bytes: Size of the pieces that are hashed; None for whole files.
    ignored: Paths, relative to the model, that are not covered; None if the
      bundle does not say, as early ones.
    resources: Digests in hexadecimal, by the names of files, or of pieces.
  """

  document: dict[str, Any]
  certificates: tuple[x509.Certificate, ...]
  name: str
  hash_type: str
  shard_bytes: int | None
  ignored: tuple[str, ...] | None
  resources: dict[str, str]


def read(path: str | os.PathLike[str]) -> Bundle:
  """Read a bundle.

  Raises:
    ModelSignatureError: If it is not a bundle of a model, or too large.
    OSError: If it cannot be read.
  """
  try:
    return parse(read_file(path, MAX_BYTES))
  except ModelSignatureError as error:
    raise ModelSignatureError(f"{path}: {error}") from None


def read_file(path: str | os.PathLike[str], limit: int) -> bytes:
  """Read a regular file of at most `limit` bytes.

  Raises:
    ModelSignatureError: If it is not one, or larger.
    OSError: If it cannot be read.
  """
  try:
    with open_file(path) as (file, size):
      data = b"" if size > limit else file.read(limit + 1)
  except ContentError:
    raise ModelSignatureError("this is not a regular file") from None
  if max(size, len(data)) > limit:  # It may grow meanwhile.
    raise ModelSignatureError(f"this is too large: more than {limit} bytes")
  return data


def parse(data: bytes) -> Bundle:
  """Read the bytes of a bundle.

  Raises:
    ModelSignatureError: If it is not a bundle of a model.
  """
  document = _json(data, "the bundle")
  if document.get("mediaType") != MEDIA_TYPE:
    raise ModelSignatureError(f"the bundle is not of type {MEDIA_TYPE}")
  certificates = _certificates(_object(document, "verificationMaterial"))
  statement = _json(_payload(_object(document, "dsseEnvelope")), "the payload")
  for name, right in (
    ("_type", STATEMENT_TYPE),
    ("predicateType", PREDICATE_TYPE),
  ):
    if statement.get(name) != right:
      raise ModelSignatureError(
        f"the statement's {name} is not {right}: it is not about a model, or "
        "of another version"
      )
  predicate = _object(statement, "predicate")
  how = _object(predicate, "serialization")
  return Bundle(
    document,
    certificates,
    _name(statement),
    _hash_type(how),
    _shard_bytes(how),
    _ignored(how),
    _resources(predicate),
  )


def _json(data: bytes, what: str) -> dict[str, Any]:
  try:
    found = json.loads(data)
  except (ValueError, RecursionError):
    found = None
  if not isinstance(found, dict):
    raise ModelSignatureError(f"{what} is not a JSON object")
  return found


def _object(parent: dict[str, Any], name: str) -> dict[str, Any]:
  found = parent.get(name)
  if not isinstance(found, dict):
    raise ModelSignatureError(f"{name} is missing, or is not a JSON object")
  return found


def _base64(text: Any, what: str) -> bytes:
  try:
    if isinstance(text, str):
      return base64.b64decode(text, validate=True)
  except ValueError:
    pass
  raise ModelSignatureError(f"{what} is missing, or is not Base64")


def _certificates(material: dict[str, Any]) -> tuple[x509.Certificate, ...]:
  """Return the certificates of the signer; none if a key signed."""
  if "certificate" in material or material.get("tlogEntries"):
    raise ModelSignatureError(
      "an identity of Sigstore signed this, and the network is needed to check "
      "it: use `model_signing verify sigstore`"
    )
  found = [x for x in ("publicKey", "x509CertificateChain") if x in material]
  if len(found) != 1:
    raise ModelSignatureError("the bundle names neither one key nor one chain")
  inner = _object(material, found[0])
  if found == ["publicKey"]:
    return ()
  chain = inner.get("certificates")
  if not isinstance(chain, list) or not chain:
    raise ModelSignatureError("the bundle's chain of certificates is empty")
  raw = [x.get("rawBytes") if isinstance(x, dict) else None for x in chain]
  ders = [_base64(x, "a certificate") for x in raw]
  try:
    certificates = tuple(map(x509.load_der_x509_certificate, ders))
    for one in certificates:
      one.subject.rfc4514_string()  # It is parsed only when it is read.
    return certificates
  except ValueError:
    raise ModelSignatureError("a certificate is malformed") from None


def _payload(envelope: dict[str, Any]) -> bytes:
  if envelope.get("payloadType") != PAYLOAD_TYPE:
    raise ModelSignatureError(f"the payload is not of type {PAYLOAD_TYPE}")
  signatures = envelope.get("signatures")
  if not isinstance(signatures, list) or len(signatures) != 1:
    raise ModelSignatureError("a bundle has exactly one signature")
  [one] = signatures
  _base64(one.get("sig") if isinstance(one, dict) else None, "the signature")
  return _base64(envelope.get("payload"), "the payload")


def _name(statement: dict[str, Any]) -> str:
  subjects = statement.get("subject")
  first = subjects[0] if isinstance(subjects, list) and subjects else None
  if not isinstance(first, dict) or not isinstance(first.get("name"), str):
    raise ModelSignatureError("the statement does not name a model")
  return first["name"]


def _hash_type(how: dict[str, Any]) -> str:
  found = how.get("hash_type")
  if not isinstance(found, str) or found not in _HASHES:
    raise ModelSignatureError("the statement's digests are of an unknown kind")
  return _HASHES[found]


def _shard_bytes(how: dict[str, Any]) -> int | None:
  method = how.get("method")
  if method == "files":
    return None
  size = how.get("shard_size")
  # Numbers of a statement pass through protobuf, which has only floats.
  whole = isinstance(size, int | float) and 1 <= size < 2**53 and size % 1 == 0
  if method != "shards" or not whole or isinstance(size, bool):
    raise ModelSignatureError("the statement lists neither files nor shards")
  return int(size)  # type: ignore[arg-type]


def _ignored(how: dict[str, Any]) -> tuple[str, ...] | None:
  found = how.get("ignore_paths")
  if found is None:
    return None
  if not isinstance(found, list) or not all(isinstance(x, str) for x in found):
    raise ModelSignatureError("the statement's ignored paths are malformed")
  return tuple(found)


def _resources(predicate: dict[str, Any]) -> dict[str, str]:
  """Return the digests that a statement lists, by name."""
  found = predicate.get("resources")
  resources: dict[str, str] = {}
  for one in found if isinstance(found, list) else ():
    name, digest = (
      (one.get("name"), one.get("digest")) if isinstance(one, dict) else ("", 0)
    )
    if not isinstance(name, str) or not isinstance(digest, str):
      raise ModelSignatureError("a resource has no name, or no digest")
    if name in resources:
      raise ModelSignatureError(f"the resource {name[:64]!r} is listed twice")
    resources[name] = digest
  if not resources:
    raise ModelSignatureError("the statement lists no file")
  return resources
