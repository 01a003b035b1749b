"""Sign a model."""

import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from keyjax import private_files
from keyjax.errors import KeyringError
from keyjax.extras import library
from keyjax.signatures import bundle, model_files, public_keys
from keyjax.signatures.errors import ModelSignatureError
from keyjax.signatures.library_files import public_paths, secret_path
from keyjax.signatures.signers import signer_of

_MODE = 0o666  # For everyone, as far as the umask allows.


class Signed(NamedTuple):
  """What was signed.

  Attributes:
    signer: Public name of the key, or subject of the certificate.
    files: How many files the signature covers.
    uncovered: Paths that are there and not covered: those of git.
  """

  signer: str
  files: int
  uncovered: list[str]


def sign(
  model: str | os.PathLike[str],
  signature: str | os.PathLike[str],
  key: ec.EllipticCurvePrivateKey,
  certificates: Sequence[x509.Certificate] = (),
) -> Signed:
  """Sign every file of a model.

  A signature in the model's own folder does not cover itself. As the command
  `model_signing` does, files of git are left out: `.git`, `.gitattributes`,
  `.github` and `.gitignore`.

  Args:
    model: File or folder, which must not change meanwhile.
    signature: New file.
    key: Private key on P-256, P-384 or P-521.
    certificates: The signer's, and those between it and the authority; without
      any, the signature names the key itself.

  Raises:
    KeyringError: If the key is of another kind, not that of the certificate, or
      the library is not installed.
    ModelSignatureError: If the model holds a link, or no file.
    FileExistsError: If there is a file at `signature`.
    OSError: If files cannot be read or written.
  """
  public = key.public_key()
  public_keys.check_public_key(public)
  if certificates and certificates[0].public_key() != public:
    raise KeyringError("the first certificate is not that of this private key")
  target = pathlib.Path(signature)
  _check_new(target)
  names = model_files.names(model)
  own = model_files.inside(model, target)
  data = _bundle(pathlib.Path(model), own, key, list(certificates))
  made = bundle.parse(data)
  private_files.replace(target, data, _MODE)
  return Signed(
    signer_of(public, certificates),
    len(made.resources),
    model_files.uncovered(names, made.ignored or (), own),
  )


def _check_new(path: pathlib.Path) -> None:
  if os.path.lexists(path):
    raise FileExistsError(f"{path} exists; a signature is never overwritten")
  if not path.parent.is_dir():
    raise FileNotFoundError(f"there is no folder {path.parent}")


def _bundle(
  model: pathlib.Path,
  own: str | None,
  key: ec.EllipticCurvePrivateKey,
  certificates: list[x509.Certificate],
) -> bytes:
  """Have the library sign, and return the bytes of the bundle."""
  hashing = library("model_signing.hashing", "signing").Config()
  hashing.set_ignored_paths(paths=[] if own is None else [own])
  config = library("model_signing.signing", "signing").Config()
  config.set_hashing_config(hashing)
  # The library takes a chain of at least one certificate.
  chain = public_keys.certificate_pem(certificates[1:] or certificates)
  leaf = public_keys.certificate_pem(certificates[:1])
  private = public_keys.private_pem(key)
  with public_paths(leaf, chain, b"") as paths, secret_path(private) as secret:
    if certificates:
      config.use_certificate_signer(
        private_key=secret,
        signing_certificate=paths[0],
        certificate_chain=[paths[1]],
      )
    else:
      config.use_elliptic_key_signer(private_key=secret)
    try:
      config.sign(model, paths[2])
    except ValueError as error:  # A name that is not Unicode, for one.
      raise ModelSignatureError(f"{model} cannot be signed: {error}") from None
    return paths[2].read_bytes()
