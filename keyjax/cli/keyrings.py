"""`keyjax keyring`: keys and licensees of a keyring, devices of a tree."""

from __future__ import annotations

import argparse
from typing import Any

import keyjax
from keyjax.cli.exit_codes import USAGE, keyring_errors_as
from keyjax.cli.key_reader import KeyReader
from keyjax.cli.keys import write_new_key
from keyjax.cli.output import Result
from keyjax.cli.parsers import (
  Parser,
  add_checkpoint,
  add_command,
  add_group,
  add_passphrase,
  add_path,
  add_plain,
  add_root,
  number,
)

_SHOW = "keyjax keyring show team.keyring --root file:root.key"
_ISSUE = """\
keyjax keyring issue team.keyring lab lab.key --plain --root file:root.key
keyjax encrypt model.safetensors copy-1 --licensee team.keyring#lab \\
  --to keyring:team.keyring --root file:root.key"""
_TRACE = "keyjax keyring trace copy-1 team.keyring --root file:root.key"
_WITHDRAW = "keyjax keyring withdraw team.keyring lab --root file:root.key"
_DISABLE = """\
keyjax rotate team.keyring --root file:root.key
keyjax keyring disable team.keyring team/1 --root file:root.key"""
_ENABLE = "keyjax keyring enable team.keyring team/1 --root file:root.key"
_DESTROY = """\
keyjax keyring disable team.keyring team/1 --root file:root.key
keyjax keyring destroy team.keyring team/1 --root file:root.key"""
_DEVICE = """\
keyjax keygen secret tree.key --plain
keyjax keyring device file:tree.key#10 7 device-7.key --plain"""


def add(commands: Any) -> None:
  """Add `keyring` and its commands."""
  parser = add_group(
    commands,
    "keyring",
    summary="show and change keys and licensees",
    details="""
A keyring holds the keys of a team, of which one is primary and encrypts; and
its licensees, each of whom gets a copy that `trace` recognizes. See `keyjax
keyring COMMAND --help`, and `keygen` and `rotate`.
""",
    examples="\n".join(
      (_SHOW, _ISSUE, _TRACE, _WITHDRAW, _DISABLE, _ENABLE, _DESTROY, _DEVICE)
    ),
  )
  inner = parser.add_subparsers(
    metavar="COMMAND", required=True, parser_class=Parser
  )
  _add_show(inner)
  _add_status(inner)
  _add_licensees(inner)
  _add_trace(inner)
  _add_device(inner)


def _add_keyring(parser: Any) -> None:
  add_path(parser, "keyring", metavar="KEYRING", help="file of the keyring")


def _add_show(commands: Any) -> None:
  parser = add_command(
    commands,
    show,
    "show",
    summary="show the keys and licensees of a keyring",
    details="The ids of keys are those that `inspect` shows for recipients.",
    examples=_SHOW,
  )
  _add_keyring(parser)
  add_passphrase(parser)
  add_root(parser)


def show(args: argparse.Namespace) -> Result:
  """Show the keys and licensees of a keyring."""
  return _view(KeyReader(args).ring(args.keyring))


def _view(ring: keyjax.keyring.Keyring) -> Result:
  keys = [
    {
      "created": entry.created,
      "id": entry.id,
      "primary": entry.primary,
      "recipient": entry.recipient_id,
      "status": entry.status,
    }
    for entry in ring.entries
  ]
  licensees = [
    {"created": x.created, "name": x.name, "withdrawn": x.withdrawn}
    for x in ring.licensees
  ]
  document = {"keys": keys, "licensees": licensees, "name": ring.name}
  lines = [
    f"{key['id']} {'primary' if key['primary'] else key['status']} "
    f"{key['recipient']}, of {key['created']}"
    for key in keys
  ]
  lines += [
    f"licensee {x['name']} {'withdrawn' if x['withdrawn'] else 'issued'}, of "
    f"{x['created']}"
    for x in licensees
  ]
  return Result(document, lines)


def _add_status(commands: Any) -> None:
  for run, name, summary, details, examples in (
    (
      enable,
      "enable",
      "enable a disabled key",
      "What was wrapped for the key opens again.",
      _ENABLE,
    ),
    (
      disable,
      "disable",
      "disable a key that is not primary",
      "KeyJAX opens nothing with it until it is enabled. This does not stop\n"
      "someone who has a copy of the key: see `revoke`.",
      _DISABLE,
    ),
    (
      destroy,
      "destroy",
      "erase a disabled key permanently",
      "What was wrapped only for it never opens again. The key is erased from\n"
      "this file, not from its copies and backups.",
      _DESTROY,
    ),
  ):
    parser = add_command(
      commands, run, name, summary=summary, details=details, examples=examples
    )
    _add_keyring(parser)
    parser.add_argument("key", metavar="KEY", help="an id that `show` shows")
    add_passphrase(parser)
    add_root(parser)


def enable(args: argparse.Namespace) -> Result:
  """Enable a disabled key."""
  return _set_status(args, keyjax.keyring.Keyring.enable)


def disable(args: argparse.Namespace) -> Result:
  """Disable a key that is not primary."""
  return _set_status(args, keyjax.keyring.Keyring.disable)


def destroy(args: argparse.Namespace) -> Result:
  """Erase a disabled key permanently."""
  return _set_status(args, keyjax.keyring.Keyring.destroy)


def _set_status(args: argparse.Namespace, change: Any) -> Result:
  ring = KeyReader(args).ring(args.keyring)
  with keyring_errors_as(USAGE):
    change(ring, args.key)
  return _view(ring)


def _add_licensees(commands: Any) -> None:
  parser = add_command(
    commands,
    issue,
    "issue",
    summary="write the key of a licensee, who is added if new",
    details="""
FILE opens the copies that are made for this licensee with `encrypt --licensee`,
and nothing else. Give it to them, and delete it: the keyring derives it.
""",
    examples=_ISSUE,
  )
  _add_keyring(parser)
  parser.add_argument(
    "name", metavar="NAME", help="public name of the licensee"
  )
  add_path(parser, "file", metavar="FILE", help="the new key file")
  add_plain(parser)
  add_passphrase(parser)
  add_root(parser)
  parser = add_command(
    commands,
    withdraw,
    "withdraw",
    summary="make no more copies for a licensee",
    details="""
The copies that they have still open for them; `trace` still recognizes them.
""",
    examples=_WITHDRAW,
  )
  _add_keyring(parser)
  parser.add_argument("name", metavar="NAME", help="name of the licensee")
  add_passphrase(parser)
  add_root(parser)


def issue(args: argparse.Namespace) -> Result:
  """Write the key of a licensee, who is added if new."""
  ring = KeyReader(args).ring(args.keyring)
  with keyring_errors_as(USAGE):
    known = any(x.name == args.name for x in ring.licensees)
    licensee = ring.licensee(args.name) if known else ring.issue(args.name)
    licensee.recipient()  # Refuses one that was withdrawn.
  write_new_key(args.file, licensee.secret, args)
  document = {"file": args.file, "id": licensee.id, "name": licensee.name}
  return Result(document, [f"{licensee.name} {licensee.id}"])


def withdraw(args: argparse.Namespace) -> Result:
  """Make no more copies for a licensee."""
  ring = KeyReader(args).ring(args.keyring)
  with keyring_errors_as(USAGE):
    ring.withdraw(args.name)
  return _view(ring)


def _add_trace(commands: Any) -> None:
  parser = add_command(
    commands,
    trace,
    "trace",
    summary="name the licensee of a leaked copy",
    details="""
No key that opens the copy is needed, and its envelope may have been replaced.
Weights that were opened, or sealed again, carry no mark.
""",
    examples=_TRACE,
  )
  add_checkpoint(parser)
  _add_keyring(parser)
  add_passphrase(parser)
  add_root(parser)


def trace(args: argparse.Namespace) -> Result:
  """Name the licensee of a leaked copy."""
  ring = KeyReader(args).ring(args.keyring)
  found = keyjax.checkpoint.trace(args.path, ring)
  line = f"{args.path} is the copy of {found}"
  if found is None:
    line = f"{args.path} is the copy of no licensee of {ring.name}"
  return Result({"licensee": found, "path": args.path}, [line])


def _add_device(commands: Any) -> None:
  parser = add_command(
    commands,
    device,
    "device",
    summary="write the keys of one licensee of a tree",
    details="""
A tree has 2^DEPTH licensees, by number. `encrypt --to
broadcast:SOURCE#DEPTH-REVOKED` is for all of them except the revoked, and
`revoke` with such a --to excludes more of them.
""",
    examples=_DEVICE,
  )
  parser.add_argument(
    "tree", metavar="SOURCE#DEPTH", help="secret at the root, and the depth"
  )
  parser.add_argument(
    "licensee", metavar="NUMBER", type=number, help="0 to 2^DEPTH - 1"
  )
  add_path(parser, "file", metavar="FILE", help="the new key file")
  add_plain(parser)
  add_passphrase(parser)


def device(args: argparse.Namespace) -> Result:
  """Write the keys of one licensee of a tree."""
  (tree,) = KeyReader(args).recipients([f"broadcast:{args.tree}"])
  assert isinstance(tree, keyjax.keyring.Broadcast)
  with keyring_errors_as(USAGE):
    keys = tree.device(args.licensee)
  write_new_key(args.file, keys, args)
  document = {"file": args.file, "id": keys.id, "licensee": keys.licensee}
  return Result(document, [f"licensee {keys.licensee} of {keys.id}"])
