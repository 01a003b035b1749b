"""`keyjax inspect` and `verify`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

import keyjax
from keyjax.cli import signatures, tiers
from keyjax.cli.exit_codes import REFUSED, USAGE, Failure, keyring_errors_as
from keyjax.cli.key_reader import KeyReader, default_identity, read_verify_key
from keyjax.cli.output import Result, progress_bar, size
from keyjax.cli.parsers import (
  add_checkpoint,
  add_command,
  add_expected,
  add_identities,
  add_passphrase,
  add_root,
  add_tier,
  add_verify_key,
)


def add(commands: Any) -> None:
  """Add the commands of this file."""
  _add_inspect(commands)
  _add_verify(commands)


def public_view(path: str) -> dict[str, Any]:
  """Return what anyone can read of a checkpoint; nothing of it is proven.

  Raises:
    Failure: If the envelope is malformed.
    CheckpointError, FileNotFoundError: If there is no sealed checkpoint.
  """
  with keyring_errors_as(REFUSED):
    return keyjax.checkpoint.inspect(path)


def _add_inspect(commands: Any) -> None:
  parser = add_command(
    commands,
    inspect,
    "inspect",
    summary="show what a checkpoint contains",
    details="""
Without a key: what anyone can read, none of which is authenticated. With a key:
the step, the names of model and run, the metadata and the leaves. Tensors are
not read; `verify` reads them. Of a checkpoint with tiers: the tiers, and with
--tier the leaves of one.
""",
    examples="""
keyjax inspect model-1
keyjax inspect model-1 -i file:bob.key
""",
  )
  add_checkpoint(parser)
  add_tier(parser)
  add_identities(parser)
  parser.add_argument(
    "--public", action="store_true", help="use no key, ignore KEYJAX_IDENTITY"
  )
  add_passphrase(parser)
  add_root(parser)


def inspect(args: argparse.Namespace) -> Result:
  """Show what a checkpoint contains, as far as the keys allow."""
  if not args.tier and keyjax.tiers.is_tiered(args.path):
    return tiers.inspect(args)
  path = tiers.folder(args.path, args.tier)
  found = public_view(path)
  reader = KeyReader(args)
  if args.public or not (args.identity or default_identity()):
    return Result(found, [*_public_lines(found), "give -i SOURCE to see more"])
  identities = tiers.with_sub_keys(args.path, reader.identities(args.identity))
  found = keyjax.checkpoint.inspect(path, identities)
  return Result(found, [*_public_lines(found), *_sealed_lines(found)])


def _public_lines(found: dict[str, Any]) -> list[str]:
  envelope = found["envelope"]
  return [
    f"format      {found['format']} {found['version']}",
    f"checkpoint  {envelope['checkpoint']}",
    f"on disk     {size(found['bytes'])}",
    *(f"recipient   {name}" for name in envelope["recipients"]),
    *(f"revoked     {name}" for name in envelope["revoked"]),
  ]


def _sealed_lines(found: dict[str, Any]) -> list[str]:
  leaves = found["leaves"]
  signed = "yes; verify checks the signer" if found["signed"] else "no"
  width = max(len(leaf["path"]) for leaf in leaves)
  total = sum(leaf["bytes"] for leaf in leaves)
  return [
    f"step        {found['step']}",
    *([f"name        {found['name']}"] if found["name"] else []),
    *([f"run         {found['run']}"] if found["run"] else []),
    f"signed      {signed}",
    f"metadata    {json.dumps(found['metadata'], sort_keys=True)}",
    f"leaves      {len(leaves)}, {size(total)}",
    *(
      f"  {leaf['path']:{width}}  {leaf['dtype']}{leaf['shape']}"
      for leaf in leaves
    ),
  ]


def _add_verify(commands: Any) -> None:
  parser = add_command(
    commands,
    verify,
    "verify",
    summary="open every chunk and report what is damaged, and where",
    details="""
Anyone who can open a checkpoint can also write one: only --verify-key proves
that it is the owner's, and only --step, --name and --run that it is not another
of theirs. Of a checkpoint with tiers, those that open are verified.

With --signature, nothing is opened and PATH can be any model: every file is
compared with what `sign`, or the command `model_signing`, signed.
""",
    examples="""
keyjax verify model-1 -i file:bob.key --verify-key @owner.key.pub
""",
  )
  add_checkpoint(parser)
  add_tier(parser)
  add_identities(parser)
  add_verify_key(parser)
  signatures.add_verify_options(parser)
  add_expected(parser)
  add_passphrase(parser)
  add_root(parser)


def verify(args: argparse.Namespace) -> Result:
  """Open every chunk, and report those that do not open."""
  if args.signature is not None:
    return signatures.verify(args)
  if args.authority is not None:
    raise Failure(USAGE, "--authority is for --signature")
  if keyjax.tiers.is_tiered(args.path):
    return tiers.verify(args)
  tiers.folder(args.path, args.tier)
  total = public_view(args.path)["bytes"]
  identities = KeyReader(args).identities(args.identity)
  key = read_verify_key(args.verify_key)
  with progress_bar("opening every chunk", args.json, total, "read"):
    problems = keyjax.checkpoint.verify(
      args.path,
      identities,
      step=args.step,
      name=args.name,
      run=args.of_run,
      verify_key=key,
    )
  return verdict(args.path, problems, key, right="every chunk opens")


def verdict(
  path: str,
  problems: Sequence[keyjax.checkpoint.Problem],
  verify_key: keyjax.keyring.VerifyKey | None,
  *,
  right: str,
) -> Result:
  """Return what was found wrong with a folder.

  Args:
    path: The folder.
    problems: Its defects.
    verify_key: Key that its signature was checked with; None if it was not.
    right: What to say if there are none.
  """
  document = {
    "path": path,
    "problems": [problem._asdict() for problem in problems],
    "signature": "checked" if verify_key else "not checked",
  }
  if not problems:
    signature = (
      "the signature is right" if verify_key else "no signature was checked"
    )
    return Result(document, [f"{path}: {right}; {signature}"])
  lines = [f"{problem.where}: {problem.what}" for problem in problems]
  count = len({problem.where for problem in problems})
  where = "1 place" if count == 1 else f"{count} places"
  return Result(document, lines, REFUSED, f"{path} is damaged in {where}")
