"""`keyjax keygen` and `keyjax public`, and new key files."""

from __future__ import annotations

import argparse
import os
import pathlib
import textwrap
from collections.abc import Mapping
from typing import Any

import keyjax
from keyjax.cli.exit_codes import USAGE, Failure, keyring_errors_as
from keyjax.cli.inputs import (
  SOURCES,
  ask_new_passphrase,
  is_public,
  public_lines,
  read_passphrase,
)
from keyjax.cli.key_reader import KeyReader
from keyjax.cli.kinds import argument_forms, keygen_kinds
from keyjax.cli.output import Result
from keyjax.cli.parsers import (
  add_command,
  add_passphrase,
  add_path,
  add_plain,
  add_root,
)

_KEYRING = "keyring"


def add(commands: Any) -> None:
  """Add `keygen` and `public`."""
  _add_keygen(commands)
  _add_public(commands)


def _add_keygen(commands: Any) -> None:
  kinds = keygen_kinds() | {
    _KEYRING: "keys of a team, which rotate; its root secret opens it"
  }
  parser = add_command(
    commands,
    keygen,
    "keygen",
    summary="generate a key",
    details=f"""
FILE is a new file with mode 600. It is protected by a passphrase, which is
read from --passphrase or prompted for. The public part goes to stdout: a
recipient to encrypt to or a key to verify with, and its id as a comment; of a
secret only the id.

{_kinds_help(kinds)}
""",
    examples="""
(umask 077; head -c 24 /dev/urandom | base64 > alice.pass)
keyjax keygen mlkem768x25519 alice.key --pub --passphrase file:alice.pass
keyjax keygen x25519 bob.key --pub --plain
keyjax keygen ed25519 owner.key --pub --plain
keyjax keygen secret root.key --plain
keyjax keygen keyring team.keyring --name team --root file:root.key
""",
  )
  parser.add_argument(
    "kind", metavar="KIND", type=_kind, choices=[*kinds], help="see above"
  )
  add_path(parser, "file", metavar="FILE", help="the new key file")
  add_plain(parser)
  add_passphrase(parser)
  add_root(parser)
  parser.add_argument(
    "--pub", action="store_true", help="also write the public part to FILE.pub"
  )
  parser.add_argument(
    "--name", metavar="NAME", help="name of a keyring's model or team"
  )


def _kinds_help(kinds: Mapping[str, str]) -> str:
  """Return the part of the help that lists what is registered."""
  lines = ["kinds:", *(f"  {name:17} {kinds[name]}" for name in kinds)]
  lines += ["", "without a key file:"]
  recipients = argument_forms("recipient")
  identities = argument_forms("identity")
  for form, text in (recipients | identities).items():
    options = ["--to"] if form in recipients else []
    options += ["-i"] if form in identities else []
    lines += textwrap.wrap(
      f"{form}, for {' and '.join(options)}: {text}",
      width=78,
      initial_indent="  ",
      subsequent_indent="      ",
    )
  return "\n".join(lines)


def _kind(text: str) -> str:
  """Return a kind; the hybrid is often spelt with a hyphen."""
  return text.replace("mlkem768-x25519", "mlkem768x25519")


def keygen(args: argparse.Namespace) -> Result:
  """Generate a key file or a keyring."""
  _check_options(args)
  if args.kind == _KEYRING:
    return _create_keyring(args)
  public_file = pathlib.Path(f"{args.file}.pub")
  if args.pub and os.path.lexists(public_file):
    raise FileExistsError(f"{public_file} exists; it is not overwritten")
  kind = keyjax.keyring.kinds()[args.kind]
  if args.pub and kind.identity is not None and kind.read_public is None:
    raise Failure(USAGE, f"a {args.kind} has no public key to write")
  assert kind.generate is not None  # It has a summary: `keygen` creates it.
  key = kind.generate()
  write_new_key(args.file, key, args)
  public = public_view(key)
  lines = public_view_lines(public)
  if args.pub:
    with public_file.open("x", encoding="ascii") as file:
      file.writelines(f"{line}\n" for line in lines)
  return Result({"file": args.file} | public, lines)


def _check_options(args: argparse.Namespace) -> None:
  ring = args.kind == _KEYRING
  if ring != (args.name is not None) or ring != (args.root is not None):
    raise Failure(USAGE, "--name and --root belong to a keyring, both of them")
  if ring and args.pub:
    raise Failure(USAGE, "a keyring has no public key to write")
  if ring and args.plain:
    raise Failure(USAGE, "a keyring is sealed under its root, never plain")


def _create_keyring(args: argparse.Namespace) -> Result:
  root = KeyReader(args).secret(args.root)
  with keyring_errors_as(USAGE):
    ring = keyjax.keyring.Keyring.create(args.file, root, args.name)
  primary = ring.entries[-1]
  document = {
    "file": args.file,
    "id": primary.recipient_id,
    "kind": _KEYRING,
    "primary": primary.id,
  }
  return Result(document, [f"{primary.id} {primary.recipient_id}"])


def write_new_key(
  path: str, key: keyjax.keyring.PrivateKey, args: argparse.Namespace
) -> None:
  """Write a key file.

  Args:
    path: New file.
    key: Private key.
    args: Arguments with `plain` and `passphrase`, which say how to protect it.

  Raises:
    Failure: If both are given, or `path` is inside a checkpoint.
  """
  if pathlib.Path(path).exists():  # Before anyone types a passphrase.
    raise FileExistsError(f"{path} exists; a key is never overwritten")
  if args.plain:
    if args.passphrase is not None:
      raise Failure(USAGE, "--plain and --passphrase exclude each other")
    passphrase = None
  elif args.passphrase is not None:
    passphrase = read_passphrase(args.passphrase)
  else:
    passphrase = ask_new_passphrase()
  with keyring_errors_as(USAGE):
    keyjax.keyring.write_key(path, key, passphrase, plain=args.plain)


def _add_public(commands: Any) -> None:
  parser = add_command(
    commands,
    public,
    "public",
    summary="show the public key and the id of a key file",
    details="""
The id is the one that `inspect` shows for recipients. The output is what
`keygen --pub` writes. It can be given to others: it contains no private key.
""",
    examples="""
keyjax public alice.key --passphrase file:alice.pass
keyjax public bob.key.pub
""",
  )
  add_path(
    parser,
    "file",
    metavar="FILE",
    help="a key file or another SOURCE; or public keys: FILE.pub, @FILE",
  )
  add_passphrase(parser)


def public(args: argparse.Namespace) -> Result:
  """Show public keys and ids."""
  reader = KeyReader(args)
  name = args.file
  if is_public(name):
    keys = [_parse_public(line) for line in public_lines(name)]
  elif name.endswith(".pub"):
    keys = [_parse_public(line) for line in public_lines(f"@{name}")]
  else:
    source = name if name.partition(":")[0] in SOURCES else f"file:{name}"
    keys = [public_view(reader.key(source))]
  lines = [line for key in keys for line in public_view_lines(key)]
  return Result({"keys": keys}, lines)


def public_view(key: keyjax.keyring.PrivateKey) -> dict[str, str]:
  """Return the public part of a private key: `kind`, `id`, and a key."""
  if isinstance(key, keyjax.keyring.SigningKey):
    return _verify_key_view(key.public)
  kind = keyjax.keyring.kind_of(key)
  if kind.recipient is not None and kind.read_public is not None:
    return recipient_view(kind.recipient(key))
  return {"id": keyjax.keyring.as_identity(key).id, "kind": kind.name}


def public_view_lines(view: dict[str, str]) -> list[str]:
  """Return a public view in the form of `@FILE`: the id is a comment."""
  key = view.get("recipient") or view.get("verify_key")
  return [key, f"# {view['id']}"] if key else [view["id"]]


def _parse_public(line: str) -> dict[str, str]:
  kind = line.partition(":")[0].removeprefix("keyjax-")
  with keyring_errors_as(USAGE):
    if kind in keyjax.keyring.signing.SIGNING:
      return _verify_key_view(keyjax.keyring.parse_verify_key(line))
    return recipient_view(keyjax.keyring.parse_recipient(line))


def recipient_view(key: Any) -> dict[str, str]:
  """Return a public key, with its id and kind."""
  text = keyjax.keyring.format_recipient(key)
  return {"id": key.id, "kind": key.kind, "recipient": text}


def _verify_key_view(key: keyjax.keyring.VerifyKey) -> dict[str, str]:
  return {
    "id": keyjax.keyring.signing.verify_key_id(key),
    "kind": keyjax.keyring.signing.signature_kind(key),
    "verify_key": keyjax.keyring.format_verify_key(key),
  }
