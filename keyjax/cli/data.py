"""`keyjax data`: sealed data sets, and tags of records."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

import keyjax
from keyjax.cli.exit_codes import REFUSED, USAGE, Failure, keyring_errors_as
from keyjax.cli.key_reader import KeyReader, default_identity, read_verify_key
from keyjax.cli.output import Result, progress_bar, size
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
_TAG = """\
keyjax data tag plain-set faces.tags --name faces --secret file:root.key \\
  --sign file:owner.key"""
_VERIFY = """\
keyjax data verify set -i file:bob.key --verify-key @owner.key.pub
keyjax data verify plain-set --tags faces.tags --secret file:root.key \\
  --verify-key @owner.key.pub"""


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
      (_SEAL, _APPEND, _REWRAP, _INSPECT, _OPEN, _TAG, _VERIFY)
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
  _add_tag(inner)
  _add_verify(inner)


def _add_set(parser: Any, what: str = "a sealed data set") -> None:
  add_path(parser, "path", complete="directory", metavar="PATH", help=what)


def _add_source(parser: Any) -> None:
  add_path(parser, "source", metavar="IN", help="folder or file to read")


def _add_expected_name(parser: Any) -> None:
  parser.add_argument("--name", help="expected name of the set")


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
  _add_source(parser)
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
  with keyring_errors_as(USAGE), _progress("sealing", args, args.source):
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
  lines = [f"{args.target} holds {_records(count)}, sealed"]
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
  _add_set(parser)
  _add_source(parser)
  add_identities(parser)
  add_signer(parser)
  add_passphrase(parser)
  add_root(parser)


def append(args: argparse.Namespace) -> Result:
  """Seal more files into a sealed set."""
  reader = KeyReader(args)
  identities = reader.identities(args.identity)
  signer = reader.signer(args.sign)
  with _progress("sealing", args, args.source):
    count = keyjax.data.append_data(
      args.path,
      args.source,
      identities,
      signer=None if signer is None else signer.private,
    )
  document = {"files": count, "path": args.path}
  return Result(document, [f"{args.path} has {_files(count)} more"])


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
  _add_set(parser)
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
  _add_set(parser)
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


def _kind(records: int | None) -> str:
  return "as a whole" if records is None else _records(records)


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
  _add_set(parser)
  add_path(parser, "target", metavar="OUT", help="folder to write")
  add_identities(parser)
  add_verify_key(parser)
  _add_expected_name(parser)
  add_passphrase(parser)
  add_root(parser)


def open_set(args: argparse.Namespace) -> Result:
  """Open a sealed set and write it unencrypted."""
  identities = KeyReader(args).identities(args.identity)
  with _progress("opening", args, args.path):
    count = keyjax.data.export_data(
      args.path,
      args.target,
      identities,
      name=args.name,
      verify_key=read_verify_key(args.verify_key),
    )
  document = {"files": count, "path": args.target}
  return Result(document, [f"{args.target} holds {_files(count)}, unencrypted"])


def _add_tag(commands: Any) -> None:
  parser = add_command(
    commands,
    tag,
    "tag",
    summary="make a tag for each record of a data set",
    details="""
The data set is not changed. A tag is an HMAC of the record, its index, its file
and the name of the set, which only holders of the secret can make and check; a
signature covers all of them. If TAGS exists, the tags of new files are added.
""",
    examples=_TAG,
  )
  _add_source(parser)
  add_path(parser, "tags", metavar="TAGS", help="file of tags to write")
  parser.add_argument("--name", required=True, help="name of the set")
  _add_secret(parser, required=True)
  add_signer(parser)
  add_verify_key(parser)
  add_passphrase(parser)


def _add_secret(parser: Any, *, required: bool) -> None:
  parser.add_argument(
    "--secret",
    required=required,
    metavar="SOURCE",
    help="secret that tags are made and checked with",
  )


def tag(args: argparse.Namespace) -> Result:
  """Make a tag for each record of a data set."""
  reader = KeyReader(args)
  secret = reader.secret(args.secret)
  signer = reader.signer(args.sign)
  place = pathlib.Path(args.tags)
  if place.resolve().is_relative_to(pathlib.Path(args.source).resolve()):
    raise Failure(USAGE, f"{place} is inside {args.source}, which is tagged")
  before = None
  if place.exists():
    own = None if signer is None else signer.public
    key = read_verify_key(args.verify_key) or own
    before = keyjax.data.RecordTags.read(place, key)
    if before.signed and signer is None:
      raise Failure(USAGE, f"{place} is signed: give --sign")
  with _progress("tagging", args, args.source):
    found = keyjax.data.tag_data(args.source, secret, args.name, tags=before)
  found.write(args.tags, signer)
  new = len(found) - len(before or ())
  document = {
    "new": new,
    "path": args.tags,
    "records": len(found),
    "root": found.root().hex(),
    "signed": signer is not None,
  }
  line = f"{args.tags} has tags of {_records(len(found))}, {new} of them new"
  return Result(document, [line, f"root {found.root().hex()}"])


def _add_verify(commands: Any) -> None:
  parser = add_command(
    commands,
    verify,
    "verify",
    summary="read every record and report what is damaged or changed",
    details="""
PATH is a sealed set; or with --tags and --secret, a set that was tagged. Only
--verify-key proves that a set or its tags are their owner's, and not another
recipient's.
""",
    examples=_VERIFY,
  )
  _add_set(parser, "a sealed data set, or one that was tagged")
  add_path(parser, "--tags", metavar="TAGS", help="tags of the set")
  _add_secret(parser, required=False)
  add_identities(parser)
  add_verify_key(parser)
  _add_expected_name(parser)
  add_passphrase(parser)
  add_root(parser)


def verify(args: argparse.Namespace) -> Result:
  """Read every record, and report those that are refused."""
  if (args.tags is None) != (args.secret is None):
    raise Failure(USAGE, "--tags and --secret are given together")
  reader = KeyReader(args)
  key = read_verify_key(args.verify_key)
  with _progress("reading", args, args.path):
    if args.tags is None:
      problems = keyjax.data.verify_data(
        args.path,
        reader.identities(args.identity),
        name=args.name,
        verify_key=key,
      )
    else:
      tags = keyjax.data.RecordTags.read(args.tags, key)
      problems = keyjax.data.verify_tagged(
        args.path, tags, reader.secret(args.secret), name=args.name
      )
  return _verdict(args.path, problems, signed=key is not None)


def _verdict(
  path: str, problems: Sequence[keyjax.data.Problem], *, signed: bool
) -> Result:
  document = {
    "path": path,
    "problems": [problem._asdict() for problem in problems],
    "signature": "checked" if signed else "not checked",
  }
  if not problems:
    said = "the signature is right" if signed else "no signature was checked"
    return Result(document, [f"{path}: every record is right; {said}"])
  lines = [f"{problem.where}: {problem.what}" for problem in problems]
  count = len(problems)
  where = "1 place" if count == 1 else f"{count} places"
  return Result(document, lines, REFUSED, f"{path} is damaged in {where}")


def _progress(title: str, args: argparse.Namespace, path: str) -> Any:
  total = keyjax.data.stored_size(path) if pathlib.Path(path).exists() else 0
  return progress_bar(title, args.json, total, "read")


def _records(count: int) -> str:
  return "1 record" if count == 1 else f"{count} records"


def _files(count: int) -> str:
  return "1 file" if count == 1 else f"{count} files"
