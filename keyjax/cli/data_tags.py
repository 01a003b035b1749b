"""`keyjax data tag` and `verify`."""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

import keyjax
from keyjax.cli.data_shared import (
  add_expected_name,
  add_set,
  add_source,
  progress,
  records,
)
from keyjax.cli.exit_codes import USAGE, Failure
from keyjax.cli.inspection import verdict
from keyjax.cli.key_reader import KeyReader, read_verify_key
from keyjax.cli.output import Result
from keyjax.cli.parsers import (
  add_command,
  add_identities,
  add_passphrase,
  add_path,
  add_root,
  add_signer,
  add_verify_key,
)

TAG = """\
keyjax data tag plain-set faces.tags --name faces --secret file:root.key \\
  --sign file:owner.key"""
VERIFY = """\
keyjax data verify set -i file:bob.key --verify-key @owner.key.pub
keyjax data verify plain-set --tags faces.tags --secret file:root.key \\
  --verify-key @owner.key.pub"""


def add(commands: Any) -> None:
  """Add the commands of this file."""
  _add_tag(commands)
  _add_verify(commands)


def _add_tag(commands: Any) -> None:
  parser = add_command(
    commands,
    tag,
    "tag",
    summary="make a tag for each record of a data set",
    details="""
The data set is not changed. A tag is an HMAC of the record, its index, its file
and the name of the set, which only holders of the secret can make and check; a
signature covers all of them. If TAGS exists, the tags of new files are added;
while one command changes TAGS, another one is refused.
""",
    examples=TAG,
  )
  add_source(parser)
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
  with keyjax.data.changing_tags(place):
    before = _before(args, signer)
    with progress("tagging", args, args.source):
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
  line = f"{args.tags} has tags of {records(len(found))}, {new} of them new"
  return Result(document, [line, f"root {found.root().hex()}"])


def _before(
  args: argparse.Namespace, signer: keyjax.keyring.SigningKey | None
) -> keyjax.data.RecordTags | None:
  """Return the tags that there are; None without."""
  place = pathlib.Path(args.tags)
  if not place.exists():
    return None
  own = None if signer is None else signer.public
  key = read_verify_key(args.verify_key) or own
  before = keyjax.data.RecordTags.read(place, key)
  if before.signed and signer is None:
    raise Failure(USAGE, f"{place} is signed: give --sign")
  return before


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
    examples=VERIFY,
  )
  add_set(parser, "a sealed data set, or one that was tagged")
  add_path(parser, "--tags", metavar="TAGS", help="tags of the set")
  _add_secret(parser, required=False)
  add_identities(parser)
  add_verify_key(parser)
  add_expected_name(parser)
  add_passphrase(parser)
  add_root(parser)


def verify(args: argparse.Namespace) -> Result:
  """Read every record, and report those that are refused."""
  if (args.tags is None) != (args.secret is None):
    raise Failure(USAGE, "--tags and --secret are given together")
  reader = KeyReader(args)
  key = read_verify_key(args.verify_key)
  with progress("reading", args, args.path):
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
  return verdict(args.path, problems, key, right="every record is right")
