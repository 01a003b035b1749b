"""`keyjax data`: sealed data sets, and tags of records."""

from __future__ import annotations

import argparse
from typing import Any

import keyjax
from keyjax.cli import data_tags
from keyjax.cli.data_shared import (
  add_expected_name,
  add_set,
  add_source,
  files,
  progress,
  records,
)
from keyjax.cli.exit_codes import REFUSED, USAGE, keyring_errors_as
from keyjax.cli.key_reader import KeyReader, default_identity, read_verify_key
from keyjax.cli.output import Result, size
from keyjax.cli.parsers import (
  Parser,
  add_command,
  add_group,
  add_identities,
  add_passphrase,
  add_path,
  add_recipients,
  add_root,
  add_signer,
  add_verify_key,
)

_SEAL = """\
keyjax data seal model.safetensors set --name faces --to @bob.key.pub \\
  --sign file:owner.key"""
_APPEND = """\
keyjax data append set rows.jsonl -i file:bob.key --sign file:owner.key"""
_REWRAP = """\
keyjax data rewrap set -i file:bob.key --to @bob.key.pub --to @carol.key.pub"""
_INSPECT = "keyjax data inspect set -i file:bob.key"
_OPEN = "keyjax data open set plain-set -i file:carol.key"


def add(commands: Any) -> None:
  """Add `data` and its commands."""
  parser = add_group(
    commands,
    "data",
    summary="seal data sets, and tag their records",
    details="""
A sealed data set is encrypted for recipients, as checkpoints are; each record
of array_record files can be read alone, and files of any other kind as a whole.
Tags leave a data set as it is: they prove of each record where it came from.
See `keyjax data COMMAND --help`, and docs/data.md.
""",
    examples="\n".join(
      (
        _SEAL,
        _APPEND,
        _REWRAP,
        _INSPECT,
        _OPEN,
        data_tags.TAG,
        data_tags.VERIFY,
      )
    ),
  )
  inner = parser.add_subparsers(
    metavar="COMMAND", required=True, parser_class=Parser
  )
  _add_seal(inner)
  _add_append(inner)
  _add_rewrap(inner)
  _add_inspect(inner)
  _add_open(inner)
  data_tags.add(inner)


def _add_seal(commands: Any) -> None:
  parser = add_command(
    commands,
    seal,
    "seal",
    summary="seal a data set for recipients",
    details="""
IN is a folder, for instance of a version of a data set of TFDS, or a file. OUT
is a new folder, written completely or not at all; with --replace, it replaces a
sealed set in one step. Names of files are encrypted too. IN is not changed:
delete it if others must not read it. To revoke a recipient, seal the set again
without them.
""",
    examples=_SEAL,
  )
  add_source(parser)
  add_path(parser, "target", metavar="OUT", help="sealed set to write")
  add_recipients(parser)
  add_signer(parser)
  parser.add_argument(
    "--name", default="", help="name of the set, stored encrypted"
  )
  parser.add_argument(
    "--replace", action="store_true", help="replace a sealed set at OUT"
  )
  add_passphrase(parser)
  add_root(parser)


def seal(args: argparse.Namespace) -> Result:
  """Seal a data set for recipients."""
  reader = KeyReader(args)
  recipients = reader.recipients(args.to)
  signer = reader.signer(args.sign)
  with keyring_errors_as(USAGE), progress("sealing", args, args.source):
    count = keyjax.data.seal_data(
      args.source,
      args.target,
      recipients,
      name=args.name,
      signer=None if signer is None else signer.private,
      replace=args.replace,
    )
  ids = [recipient.id for recipient in recipients]
  document = {
    "path": args.target,
    "recipients": ids,
    "records": count,
    "signed": signer is not None,
  }
  lines = [f"{args.target} holds {records(count)}, sealed"]
  return Result(document, lines + [f"{args.target} opens for {n}" for n in ids])


def _add_append(commands: Any) -> None:
  parser = add_command(
    commands,
    append,
    "append",
    summary="seal more files into a sealed set",
    details="""
Files of IN that the set does not have are added in one step; those that it has
are not compared. A signed set needs its --sign again.
""",
    examples=_APPEND,
  )
  add_set(parser)
  add_source(parser)
  add_identities(parser)
  add_signer(parser)
  add_passphrase(parser)
  add_root(parser)


def append(args: argparse.Namespace) -> Result:
  """Seal more files into a sealed set."""
  reader = KeyReader(args)
  identities = reader.identities(args.identity)
  signer = reader.signer(args.sign)
  with progress("sealing", args, args.source):
    count = keyjax.data.append_data(
      args.path,
      args.source,
      identities,
      signer=None if signer is None else signer.private,
    )
  document = {"files": count, "path": args.path}
  return Result(document, [f"{args.path} has {files(count)} more"])


def _add_rewrap(commands: Any) -> None:
  parser = add_command(
    commands,
    rewrap,
    "rewrap",
    summary="replace the recipients of a sealed set",
    details="""
The data key stays the same and no record is touched. Who could open the set may
have kept the data key: to exclude them, `data seal` it again.
""",
    examples=_REWRAP,
  )
  add_set(parser)
  add_identities(parser)
  add_recipients(parser)
  add_passphrase(parser)
  add_root(parser)


def rewrap(args: argparse.Namespace) -> Result:
  """Replace the recipients of a sealed set."""
  reader = KeyReader(args)
  recipients = reader.recipients(args.to)
  identities = reader.identities(args.identity)
  keyjax.data.rewrap_data(args.path, identities, recipients)
  ids = [recipient.id for recipient in recipients]
  document = {"path": args.path, "recipients": ids}
  return Result(document, [f"{args.path} opens for {name}" for name in ids])


def _add_inspect(commands: Any) -> None:
  parser = add_command(
    commands,
    inspect,
    "inspect",
    summary="show what a sealed set contains",
    details="""
Without a key: what anyone can read, none of which is authenticated. With a key:
its name, its revision and its files. Records are not read; `data verify` reads
them.
""",
    examples=_INSPECT,
  )
  add_set(parser)
  add_identities(parser)
  add_passphrase(parser)
  add_root(parser)


def inspect(args: argparse.Namespace) -> Result:
  """Show what a sealed set contains, as far as the keys allow."""
  with keyring_errors_as(REFUSED):
    found = keyjax.data.inspect_data(args.path)
  lines = [
    f"format      {found['format']} {found['version']}",
    f"set         {found['envelope']['checkpoint']}",
    f"on disk     {size(found['bytes'])}",
    *(f"recipient   {name}" for name in found["envelope"]["recipients"]),
    *(f"revoked     {name}" for name in found["envelope"]["revoked"]),
  ]
  if not (args.identity or default_identity()):
    return Result(found, [*lines, "give -i SOURCE to see more"])
  identities = KeyReader(args).identities(args.identity)
  found = keyjax.data.inspect_data(args.path, identities)
  return Result(found, lines + _sealed_lines(found))


def _sealed_lines(found: dict[str, Any]) -> list[str]:
  signed = "yes; verify checks the signer" if found["signed"] else "no"
  width = max(len(file["name"]) for file in found["files"])
  total = sum(file["bytes"] for file in found["files"])
  return [
    *([f"name        {found['name']}"] if found["name"] else []),
    f"revision    {found['revision']}",
    f"signed      {signed}",
    f"files       {len(found['files'])}, {size(total)}",
    *(
      f"  {file['name']:{width}}  {_kind(file['records'])}, "
      f"{size(file['bytes'])}"
      for file in found["files"]
    ),
  ]


def _kind(count: int | None) -> str:
  return "as a whole" if count is None else records(count)


def _add_open(commands: Any) -> None:
  parser = add_command(
    commands,
    open_set,
    "open",
    summary="open a sealed set and write it unencrypted",
    details="""
OUT is a new folder that only you can read (mode 700). Files that were sealed as
a whole become the same bytes, and files of records have the same records.
""",
    examples=_OPEN,
  )
  add_set(parser)
  add_path(parser, "target", metavar="OUT", help="folder to write")
  add_identities(parser)
  add_verify_key(parser)
  add_expected_name(parser)
  add_passphrase(parser)
  add_root(parser)


def open_set(args: argparse.Namespace) -> Result:
  """Open a sealed set and write it unencrypted."""
  identities = KeyReader(args).identities(args.identity)
  with progress("opening", args, args.path):
    count = keyjax.data.export_data(
      args.path,
      args.target,
      identities,
      name=args.name,
      verify_key=read_verify_key(args.verify_key),
    )
  document = {"files": count, "path": args.target}
  return Result(document, [f"{args.target} holds {files(count)}, unencrypted"])
