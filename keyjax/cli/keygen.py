"""`keyjax keygen`, and new key files."""

import argparse
import os
import pathlib

from keyjax import Secret
from keyjax.cli.failures import USAGE, Failure, blame
from keyjax.cli.output import Result
from keyjax.cli.passphrases import ask_twice, read_passphrase
from keyjax.cli.people import People
from keyjax.cli.public import describe, lines
from keyjax.keyring import (
  HpkePrivateKey,
  Keyring,
  PrivateKey,
  RsaIdentity,
  SigningKey,
  write_key,
)


def keygen(args: argparse.Namespace) -> Result:
  """Makes a key file, or a keyring."""
  _check(args)
  if args.kind == "keyring":
    return _keyring(args)
  public_file = pathlib.Path(f"{args.file}.pub")
  if args.pub and os.path.lexists(public_file):
    raise FileExistsError(f"{public_file} exists; it is not overwritten")
  key = _generate(args.kind)
  write_new(args, args.file, key)
  shown = describe(key)
  if args.pub:
    with public_file.open("x", encoding="ascii") as file:
      file.writelines(f"{line}\n" for line in lines(shown))
  return Result({"file": args.file} | shown, lines(shown))


def _check(args: argparse.Namespace) -> None:
  ring = args.kind == "keyring"
  if ring != (args.name is not None) or ring != (args.root is not None):
    raise Failure(USAGE, "--name and --root belong to a keyring, both of them")
  if args.pub and args.kind in ("secret", "keyring"):
    raise Failure(USAGE, f"a {args.kind} has no public key to write")
  if ring and args.plain:
    raise Failure(USAGE, "a keyring is sealed under its root, never plain")


def _generate(kind: str) -> PrivateKey:
  if kind == "secret":
    return Secret.generate()
  if kind == "rsa":
    return RsaIdentity.generate()
  if kind in ("ed25519", "ml-dsa-65"):
    return SigningKey.generate(kind)
  return HpkePrivateKey.generate(kind)


def _keyring(args: argparse.Namespace) -> Result:
  root = People(args).secret(args.root)
  with blame(USAGE):
    ring = Keyring.create(args.file, root, args.name)
  primary = ring.entries[-1]
  document = {
    "file": args.file,
    "id": primary.recipient_id,
    "kind": "keyring",
    "primary": primary.id,
  }
  return Result(document, [f"{primary.id} {primary.recipient_id}"])


def write_new(args: argparse.Namespace, path: str, key: PrivateKey) -> None:
  """Writes a key file as `--plain` and `--passphrase` say.

  Raises:
    Failure: both are given, or the file would lie in a checkpoint.
  """
  if pathlib.Path(path).exists():  # Before anybody types a passphrase.
    raise FileExistsError(f"{path} exists; a key is never overwritten")
  if args.plain:
    if args.passphrase is not None:
      raise Failure(USAGE, "--plain and --passphrase exclude each other")
    passphrase = None
  elif args.passphrase is not None:
    passphrase = read_passphrase(args.passphrase)
  else:
    passphrase = ask_twice()
  with blame(USAGE):
    write_key(path, key, passphrase, plain=args.plain)
