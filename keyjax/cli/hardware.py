"""`keyjax hardware`: keys in devices that count wrong PINs."""

from __future__ import annotations

import argparse
from typing import Any

import keyjax
from keyjax.cli.exit_codes import USAGE, Failure
from keyjax.cli.inputs import refuse_existing
from keyjax.cli.key_reader import KeyReader
from keyjax.cli.keys import public_view_lines, recipient_view
from keyjax.cli.kinds import argument_forms
from keyjax.cli.output import Result
from keyjax.cli.parsers import Parser, add_command, add_group, add_path, number

_LIMIT = "keyjax hardware limit --tries 3 --lockout file:alice.pass"
_CREATE = """\
keyjax hardware create tpm:0x81010001#file:alice.pass --pub tpm.pub
keyjax rewrap model-2 -i file:alice.key --passphrase file:alice.pass --keep \\
  --to @tpm.pub"""
_SHOW = "keyjax hardware show tpm:0x81010001"
_FORGET = """\
keyjax inspect model-2 -i tpm:0x81010001#file:alice.pass
keyjax hardware forget tpm:0x81010001"""


def add(commands: Any) -> None:
  """Add `hardware` and its commands."""
  parser = add_group(
    commands,
    "hardware",
    summary="keys in a TPM or on a token, which forgets them",
    details="""
A device keeps the key and counts wrong PINs: after some of them, or after
`forget`, it opens nothing any more. Give each checkpoint another recipient too.
See `keyjax hardware COMMAND --help`.
""",
    examples="\n".join((_LIMIT, _CREATE, _SHOW, _FORGET)),
  )
  inner = parser.add_subparsers(
    metavar="COMMAND", required=True, parser_class=Parser
  )
  _add_limit(inner)
  _add_create(inner)
  for run, name, summary, details, examples in (
    (
      show,
      "show",
      "show a key, and how its device counts wrong PINs",
      "No PIN is needed. A token may say nothing of its count.",
      _SHOW,
    ),
    (
      forget,
      "forget",
      "erase a key from its device, permanently",
      "What was wrapped only for the key never opens again. A token asks for\n"
      "its PIN, a TPM for none.",
      _FORGET,
    ),
  ):
    parser = add_command(
      inner, run, name, summary=summary, details=details, examples=examples
    )
    _add_key(parser)


def _add_key(parser: Any) -> None:
  parser.add_argument(
    "key", metavar="KEY", help=" or ".join(argument_forms("create"))
  )


def _add_limit(commands: Any) -> None:
  parser = add_command(
    commands,
    limit,
    "limit",
    summary="make a TPM disable its keys after some wrong PINs",
    details="""
Once for each TPM. This concerns all its keys with PINs, of other programs too:
after that many wrong PINs, right ones are refused, and waiting does not help.
The count starts again at zero whenever the owner of the lockout password gives
this command. The TPM is /dev/tpmrm0, or what TPM2TOOLS_TCTI names.
""",
    examples=_LIMIT,
  )
  parser.add_argument(
    "--tries", type=number, default=3, metavar="N", help="wrong PINs (3)"
  )
  password = parser.add_mutually_exclusive_group(required=True)
  password.add_argument(
    "--lockout",
    metavar="SOURCE",
    help="the lockout password, which is set if there is none",
  )
  password.add_argument(
    "--irrevocable",
    action="store_true",
    help="set a random lockout password that nobody knows: no try is ever "
    "restored, and only its firmware can clear the TPM",
  )


def limit(args: argparse.Namespace) -> Result:
  """Make a TPM disable its keys after some wrong PINs."""
  if args.tries < 1:
    raise Failure(USAGE, "--tries is at least 1")
  lockout = None
  if args.lockout is not None:
    lockout = KeyReader(args).passphrase(args.lockout)
  keyjax.keyring.limit_tries(args.tries, lockout=lockout)
  line = f"after {args.tries} wrong PINs the TPM accepts no right one"
  return Result({"tries": args.tries}, [line])


def _add_create(commands: Any) -> None:
  parser = add_command(
    commands,
    create,
    "create",
    summary="create a key in a device",
    details="""
The public key goes to stdout: a recipient to encrypt to. A TPM has one PIN for
each key, which is chosen here; a token has one for all, which it knows already.
""",
    examples=_CREATE,
  )
  _add_key(parser)
  add_path(
    parser, "--pub", metavar="FILE", help="also write the public key to FILE"
  )


def create(args: argparse.Namespace) -> Result:
  """Create a key in a device."""
  if args.pub is not None:
    refuse_existing(args.pub)
  kind, _, rest = args.key.partition(":")
  argument = _argument(kind)
  assert argument.create is not None
  view = recipient_view(argument.create(rest, KeyReader(args)).public)
  lines = public_view_lines(view)
  if args.pub is not None:
    with open(args.pub, "x", encoding="ascii") as file:
      file.writelines(f"{line}\n" for line in lines)
  return Result(view, lines)


def show(args: argparse.Namespace) -> Result:
  """Show a key, and how its device counts wrong PINs."""
  key = _key(args)
  view, status = recipient_view(key.public), key.status()
  lines = [f"{name}: {value}" for name, value in status.items()]
  return Result(view | status, public_view_lines(view) + lines)


def forget(args: argparse.Namespace) -> Result:
  """Erase a key from its device, permanently."""
  key = _key(args)
  key.forget()
  return Result({"id": key.id}, [f"{key.name} is erased: {key.id}"])


def _key(args: argparse.Namespace) -> keyjax.keyring.HardwareKey:
  """Return the key that the arguments name."""
  kind, _, rest = args.key.partition(":")
  argument = _argument(kind)
  assert argument.identity is not None
  key = argument.identity(rest, KeyReader(args))
  assert isinstance(key, keyjax.keyring.HardwareKey)
  return key


def _argument(kind: str) -> keyjax.keyring.Argument:
  registered = keyjax.keyring.kinds().get(kind)
  argument = None if registered is None else registered.argument
  if argument is None or argument.create is None:
    forms = " or ".join(argument_forms("create"))
    raise Failure(USAGE, f"a key in a device is named {forms}")
  return argument
