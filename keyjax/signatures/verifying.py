"""Verify a model against its signature."""

import json
import logging
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from keyjax.arguments import first_line
from keyjax.errors import ArgumentError
from keyjax.extras import library
from keyjax.signatures import bundle, model_files, public_keys
from keyjax.signatures.bundle import Bundle
from keyjax.signatures.errors import ModelSignatureError
from keyjax.signatures.library_files import public_paths
from keyjax.signatures.signers import key_hint, signer_of

# How the library's error begins if a right signature is of another model.
_OTHER_FILES = "Signature mismatch"


class Verified(NamedTuple):
  """What a right signature says.

  Attributes:
    name: The model's name when it was signed.
    signer: Public name of the key, or subject of the certificate.
    files: How many files the signature covers.
    uncovered: Paths that are there and that the signer chose not to cover; they
      may have been changed.
  """

  name: str
  signer: str
  files: int
  uncovered: list[str]


def verify(
  model: str | os.PathLike[str],
  signature: str | os.PathLike[str],
  *,
  key: ec.EllipticCurvePublicKey | None = None,
  roots: Sequence[x509.Certificate] = (),
) -> Verified:
  """Check that a model has exactly the files that were signed.

  Args:
    model: File or folder.
    signature: Bundle, here or of another tool; untrusted.
    key: Public key of the expected signer.
    roots: Instead of a key: certificates of the authority that certified it.

  Raises:
    ModelSignatureError: If the bundle is malformed, signed by another, or a
      file differs; `differences` names these.
    KeyringError: If the key is of another kind, or the library is not
      installed.
    ArgumentError: If not exactly one of `key` and `roots` is given.
    OSError: If files cannot be read.
  """
  if (key is None) == (not roots):
    raise ArgumentError("who must have signed it? give either key or roots")
  if key is not None:
    public_keys.check_public_key(key)
  found = bundle.read(signature)
  if bool(found.certificates) != bool(roots):
    by, give = ("a certificate", "roots") if not roots else ("a key", "key")
    raise ModelSignatureError(
      f"{signature} was signed with {by}: give `{give}`"
    )
  if key is not None:
    _check_hint(signature, found, key)
  names = model_files.names(model)
  own = model_files.inside(model, signature)
  path = pathlib.Path(model)
  _run(path, signature, found, own, key, list(roots))
  ignored = (*_ignored(found), *(() if own is None else (own,)))
  return Verified(
    found.name,
    signer_of(key, found.certificates),
    len(model_files.by_file(found.resources, found.shard_bytes is not None)),
    model_files.uncovered(names, ignored, own),
  )


def _check_hint(
  signature: str | os.PathLike[str],
  found: Bundle,
  key: ec.EllipticCurvePublicKey,
) -> None:
  """Raise a ModelSignatureError if a bundle names another key.

  The name is a hint, which is not signed: the right one proves nothing.
  """
  hint = found.document["verificationMaterial"]["publicKey"].get("hint")
  if hint and hint != key_hint(key):
    raise ModelSignatureError(
      f"{signature} names another key, sha256:{str(hint)[:64]}, than "
      f"sha256:{key_hint(key)}"
    )


def _run(
  model: pathlib.Path,
  signature: str | os.PathLike[str],
  found: Bundle,
  own: str | None,
  key: ec.EllipticCurvePublicKey | None,
  roots: list[x509.Certificate],
) -> None:
  """Have the library verify; its errors become one of ours."""
  config = library("model_signing.verifying", "signing").Config()
  _silence()
  config.set_hashing_config(_hashing(found, own))
  # What is verified are the bytes that were checked, not a file that others
  # can change.
  checked = json.dumps(_with_hint(found, key)).encode()
  trusted = public_keys.certificate_pem(roots)
  if key is not None:
    trusted = public_keys.public_pem(key)
  with public_paths(checked, trusted) as (file, pem):
    if key is not None:
      config.use_elliptic_key_verifier(public_key=pem)
    else:
      config.use_certificate_verifier(certificate_chain=[pem])
    try:
      config.verify(model, file)
    except OSError:
      raise
    except Exception as error:  # The library raises types of its libraries.
      _refuse(error, model, signature, found, own)


def _silence() -> None:
  """Leave the library's warnings to programs that ask for log messages.

  Without a handler they would be on stderr, such as that a certificate has no
  key usage, which is refused here if it matters.
  """
  logger = logging.getLogger("model_signing")
  if not logger.handlers:
    logger.addHandler(logging.NullHandler())


def _refuse(
  error: Exception,
  model: pathlib.Path,
  signature: str | os.PathLike[str],
  found: Bundle,
  own: str | None,
) -> NoReturn:
  """Raise what the library's error means."""
  if not str(error).startswith(_OTHER_FILES):
    raise ModelSignatureError(
      f"{signature} was changed, or signed by another ({first_line(error)})"
    ) from None
  hashing = _hashing(found, own)
  hashing.add_ignored_paths(model_path=model, paths=found.ignored or ())
  here = {
    one.identifier: one.digest.digest_hex
    for one in hashing.hash(model).resource_descriptors()
  }
  shards = found.shard_bytes is not None
  wrong = model_files.differences(found.resources, here, shards=shards)
  listed = ", ".join(f"{one.where} ({one.what})" for one in wrong[:5])
  more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
  raise ModelSignatureError(
    f"{model} is not what was signed: {listed}{more}", wrong
  ) from None


def _ignored(found: Bundle) -> tuple[str, ...]:
  """Return what a bundle ignores; early ones ignore git's files unsaid."""
  if found.ignored is not None:
    return found.ignored
  return (".git", ".gitattributes", ".github", ".gitignore")


def _hashing(found: Bundle, own: str | None) -> Any:
  """Return the library's settings for the hashes of a bundle."""
  config = library("model_signing.hashing", "signing").Config()
  if found.shard_bytes is None:
    config.use_file_serialization(hashing_algorithm=found.hash_type)
  else:
    config.use_shard_serialization(
      hashing_algorithm=found.hash_type, shard_size=found.shard_bytes
    )
  return config.set_ignored_paths(
    paths=[] if own is None else [own],
    # The bundle's own list comes from the library once it has verified.
    ignore_git_paths=found.ignored is None,
  )


def _with_hint(
  found: Bundle, key: ec.EllipticCurvePublicKey | None
) -> dict[str, Any]:
  """Return a bundle that names its key, which early ones do not.

  The library prints a warning for these. The name only tells keys apart.
  """
  material = found.document["verificationMaterial"]
  if key is None or material["publicKey"].get("hint"):
    return found.document
  named = {**material, "publicKey": {"hint": key_hint(key)}}
  return {**found.document, "verificationMaterial": named}
