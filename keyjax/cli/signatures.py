"""`keyjax sign`, and `keyjax verify --signature`."""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

import keyjax
from keyjax.cli.exit_codes import REFUSED, USAGE, Failure, keyring_errors_as
from keyjax.cli.inputs import refuse_existing
from keyjax.cli.key_reader import KeyReader
from keyjax.cli.output import Result, progress_bar
from keyjax.cli.parsers import add_command, add_passphrase, add_path

_MAX_PEM = 1 << 20
# Options of `verify` that are about sealed content, by their attributes.
_OTHERS = {
  "identity": "-i",
  "tier": "--tier",
  "step": "--step",
  "name": "--name",
  "of_run": "--run",
  "root": "--root",
  "passphrase": "--passphrase",
}


def add(commands: Any) -> None:
  """Add `sign`."""
  parser = add_command(
    commands,
    sign,
    "sign",
    summary="sign every file of a model, for `model_signing verify`",
    details="""
MODEL is a file or a folder on a disk: a sealed or plain checkpoint, files from
Hugging Face, or a folder with a checkpoint and its card. The signature is a
bundle of OpenSSF Model Signing; `verify --signature` and the command
`model_signing` check it. It says who signed these bytes, not that the model is
good, and hides nothing. The key is an EC private key as PEM (P-256, P-384 or
P-521): openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256. After a
rewrap, sign again. Needs pip install 'keyjax[signing]'.
""",
    examples="""
keyjax sign model-1 --key file:signer.pem --out model-1.sig
keyjax verify model-1 --signature model-1.sig --verify-key @signer.pub.pem
""",
  )
  add_path(parser, "model", metavar="MODEL", help="file or folder to sign")
  parser.add_argument(
    "--key", required=True, metavar="SOURCE", help="EC private key as PEM"
  )
  add_path(
    parser,
    "--certificate",
    metavar="FILE.pem",
    help="certificate of the key, then those between it and the authority",
  )
  add_path(
    parser,
    "--out",
    required=True,
    metavar="FILE.sig",
    help="the new signature; it may be in the model's folder",
  )
  add_passphrase(parser)


def add_verify_options(parser: Any) -> None:
  """Add the options of `verify` that check the signature of a whole model."""
  add_path(
    parser,
    "--signature",
    metavar="FILE.sig",
    help="check every file against a bundle of OpenSSF Model Signing instead; "
    "--verify-key is then @FILE with the EC public key as PEM",
  )
  add_path(
    parser,
    "--authority",
    metavar="FILE.pem",
    help="with --signature: certificates of those who certified the signer",
  )


def sign(args: argparse.Namespace) -> Result:
  """Sign every file of a model."""
  refuse_existing(args.out)  # Before anyone types a passphrase.
  certificates = []
  if args.certificate is not None:
    data = _read(args.certificate)
    with keyring_errors_as(USAGE):
      certificates = keyjax.signatures.read_certificates(data)
  key = KeyReader(args).model_key(args.key)
  with progress_bar("hashing", args.json, _bytes(args.model), "read"):
    signed = keyjax.signatures.sign(args.model, args.out, key, certificates)
  document = {
    "files": signed.files,
    "model": args.model,
    "signature": args.out,
    "signer": signed.signer,
    "uncovered": signed.uncovered,
  }
  line = f"{args.out} signs {_count(signed.files)} of {args.model}"
  lines = [line, f"signer: {signed.signer}"]
  return Result(document, lines + _not_covered(signed.uncovered))


def verify(args: argparse.Namespace) -> Result:
  """Check every file of a model against a signature."""
  for attribute, option in _OTHERS.items():
    if getattr(args, attribute) not in (None, []):
      raise Failure(
        USAGE,
        f"--signature needs no {option}: it is about the files as they are; "
        "open them with another `keyjax verify`",
      )
  trusted = _trusted(args)
  try:
    with progress_bar("hashing", args.json, _bytes(args.path), "read"):
      found = keyjax.signatures.verify(args.path, args.signature, **trusted)
  except keyjax.signatures.ModelSignatureError as error:
    if not error.differences:
      raise
    return _differs(args, error)
  document = {
    "differences": [],
    "files": found.files,
    "path": args.path,
    "signer": found.signer,
    "uncovered": found.uncovered,
  }
  line = f"{args.path}: {_count(found.files)}, as signed"
  lines = [line, f"signer: {found.signer}"]
  return Result(document, lines + _not_covered(found.uncovered))


def _trusted(args: argparse.Namespace) -> dict[str, Any]:
  """Return whose signature is accepted, for `keyjax.signatures.verify`."""
  if (args.verify_key is None) == (args.authority is None):
    raise Failure(
      USAGE,
      "who must have signed it? with --signature, give either --verify-key "
      "@FILE or --authority FILE",
    )
  if args.authority is not None:
    data = _read(args.authority)
    with keyring_errors_as(USAGE):
      return {"roots": keyjax.signatures.read_certificates(data)}
  if not args.verify_key.startswith("@"):
    raise Failure(
      USAGE, "with --signature, --verify-key is @FILE with a public key as PEM"
    )
  data = _read(args.verify_key[1:])
  with keyring_errors_as(USAGE):
    return {"key": keyjax.signatures.read_public_key(data)}


def _read(path: str) -> bytes:
  """Read a file with public keys or certificates."""
  try:
    return keyjax.signatures.bundle.read_file(path, _MAX_PEM)
  except keyjax.signatures.ModelSignatureError as error:
    raise Failure(USAGE, f"{path}: {error}") from None


def _differs(
  args: argparse.Namespace, error: keyjax.signatures.ModelSignatureError
) -> Result:
  document = {
    "differences": [one._asdict() for one in error.differences],
    "path": args.path,
  }
  lines = [f"{one.where}: {one.what}" for one in error.differences]
  problem = f"{args.path} is not what was signed"
  return Result(document, lines, REFUSED, problem)


def _bytes(path: str) -> int:
  """Return the size of a model, for a progress bar."""
  found = pathlib.Path(path)
  files = found.rglob("*") if found.is_dir() else [found]
  return sum(one.lstat().st_size for one in files if one.is_file())


def _not_covered(paths: list[str]) -> list[str]:
  return [f"not covered: {path}" for path in paths]


def _count(files: int) -> str:
  return "1 file" if files == 1 else f"{files} files"
