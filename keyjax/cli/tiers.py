"""Checkpoints with tiers: what the commands on checkpoints do with them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import keyjax
from keyjax.cli.exit_codes import REFUSED, USAGE, Failure, keyring_errors_as
from keyjax.cli.inputs import read_json_object
from keyjax.cli.key_reader import (
  KeyReader,
  default_identity,
  read_verify_key,
)
from keyjax.cli.output import Result, progress_bar, size
from keyjax.cli.parsers import pattern

BASE = "base"  # The tier of the leaves that --to is for.


def fields(text: str, form: str) -> list[str]:
  """Return what an argument has between colons, in a form such as `A:B`.

  Raises:
    ArgumentTypeError: If a field is missing; the last may have colons.
  """
  count = form.count(":")
  found = text.split(":", count)
  if len(found) <= count or not all(found):
    raise argparse.ArgumentTypeError(f"not of the form {form}")
  return found


def _tier_of_leaves(text: str) -> list[str]:
  name, regex, recipients = fields(text, "NAME:REGEX:RECIPIENTS")
  return [name, pattern(regex), recipients]


def _pair_of_tiers(text: str) -> list[str]:
  return fields(text, "HIGHER:LOWER")


def add_tiers(parser: Any) -> None:
  """Add `--tier NAME:REGEX:RECIPIENTS` and `--opens`."""
  parser.add_argument(
    "--tier",
    type=_tier_of_leaves,
    action="append",
    default=[],
    metavar="NAME:REGEX:RECIPIENTS",
    help="seal the leaves whose whole path matches under a data key of their "
    "own, for recipients as in --to, with commas between them; --to is then "
    f"for the rest, the tier {BASE}. A leaf is in the first tier that matches; "
    r"write a colon in REGEX as \x3a; can be repeated",
  )
  parser.add_argument(
    "--opens",
    type=_pair_of_tiers,
    action="append",
    default=[],
    metavar="HIGHER:LOWER",
    help="whoever opens the one tier can open the other, which comes after "
    "it; can be repeated",
  )


def folders(path: str) -> list[str]:
  """Return the folders of all tiers, or the path itself without tiers."""
  if not keyjax.tiers.is_tiered(path):
    return [path]
  names = keyjax.tiers.inspect(path)["tiers"]
  return [keyjax.tiers.folder(path, name) for name in names]


def folder(path: str, names: Sequence[str]) -> str:
  """Return the folder of the tier of `--tier`; the path itself without tiers.

  Raises:
    Failure: If the path has tiers and not one is named, or has none.
  """
  if not keyjax.tiers.is_tiered(path):
    if names:
      raise Failure(USAGE, f"{path} has no tiers: give no --tier")
    return path
  if len(names) != 1:
    known = ", ".join(keyjax.tiers.inspect(path)["tiers"])
    raise Failure(USAGE, f"{path} has tiers: give one --tier of {known}")
  return keyjax.tiers.folder(path, names[0])


def with_sub_keys(
  path: str, identities: list[keyjax.keyring.Identity]
) -> list[keyjax.keyring.Identity]:
  """Return keys, and the sub-keys of the tiers that they open."""
  if not keyjax.tiers.is_tiered(path):
    return identities
  return keyjax.tiers.with_sub_keys(path, identities)


def encrypt(args: argparse.Namespace) -> Result:
  """Seal weights in tiers."""
  if args.licensee is not None:
    raise Failure(USAGE, "--licensee marks a checkpoint without tiers")
  reader = KeyReader(args)
  tiers = _tiers(args, reader)
  signer = reader.signer(args.sign)
  metadata = read_json_object(args.metadata)
  total = keyjax.checkpoint.stored_size(args.source)
  with (
    keyring_errors_as(USAGE),
    progress_bar("sealing", args.json, 2 * total, "both"),
  ):
    keyjax.tiers.save(
      args.target,
      keyjax.checkpoint.read_weights(args.source),
      tiers,
      step=args.step,
      name=args.name,
      run=args.of_run,
      metadata=metadata,
      signer=None if signer is None else signer.private,
    )
  found = keyjax.tiers.inspect(args.target)
  document = {
    "path": args.target,
    "signed": signer is not None,
    "step": args.step,
    "tiers": recipients_of(found),
  }
  lines = [f"{args.target} holds {len(tiers)} tiers, sealed"]
  return Result(document, [*lines, *opens_for(args.target, found)])


def _tiers(
  args: argparse.Namespace, reader: KeyReader
) -> list[keyjax.tiers.Tier]:
  """Return the tiers of `--tier`, and of `--to` for the rest."""
  found = [
    (name, regex, reader.recipients(recipients.split(",")))
    for name, regex, recipients in args.tier
  ]
  if args.to:
    found.append((BASE, ".*", reader.recipients(args.to)))
  if unknown := [
    x for x, _ in args.opens if x not in [name for name, *_ in found]
  ]:
    raise Failure(USAGE, f"--opens: no tier is called {unknown[0]}")
  return [
    keyjax.tiers.Tier(
      *one, opens=[low for high, low in args.opens if high == one[0]]
    )
    for one in found
  ]


def recipients_of(found: dict[str, Any]) -> dict[str, list[str]]:
  """Return the ids of each tier's recipients, from what `inspect` found."""
  return {
    name: tier["envelope"]["recipients"]
    for name, tier in found["tiers"].items()
  }


def opens_for(path: str, found: dict[str, Any]) -> list[str]:
  """Return a line for each recipient of each tier."""
  return [
    f"tier {name} of {path} opens for {one}"
    for name, ids in recipients_of(found).items()
    for one in ids
  ]


def inspect(args: argparse.Namespace) -> Result:
  """Show the tiers of a checkpoint, and not their leaves."""
  with_key = not args.public and bool(args.identity or default_identity())
  identities = KeyReader(args).identities(args.identity) if with_key else None
  with keyring_errors_as(REFUSED):
    found = keyjax.tiers.inspect(args.path)
  if identities is not None:
    found = keyjax.tiers.inspect(args.path, identities)
  lines = [
    f"format      {found['format']} {found['version']}",
    f"checkpoint  {found['id']}",
  ]
  for name, tier in found["tiers"].items():
    opened = {True: ", opens", False: ", does not open"}
    state = opened[tier["present"]] if "present" in tier else ""
    lines.append(f"tier        {name}, {size(tier['bytes'])}{state}")
    envelope = tier["envelope"]
    lines += [f"recipient     {one}" for one in envelope["recipients"]]
    lines += [f"revoked       {one}" for one in envelope["revoked"]]
  return Result(found, [*lines, "give --tier NAME and -i SOURCE to see leaves"])


def verify(args: argparse.Namespace) -> Result:
  """Open every chunk of the tiers that open."""
  identities = KeyReader(args).identities(args.identity)
  key = read_verify_key(args.verify_key)
  found = keyjax.tiers.inspect(args.path, identities)["tiers"]
  total = sum(tier["bytes"] for tier in found.values())
  with progress_bar("opening every chunk", args.json, total, "read"):
    problems = keyjax.tiers.verify(
      args.path,
      identities,
      tiers=args.tier or None,
      step=args.step,
      name=args.name,
      run=args.of_run,
      verify_key=key,
    )
  checked = args.tier or [x for x in found if found[x]["present"]]
  document = {
    "path": args.path,
    "problems": [problem._asdict() for problem in problems],
    "signature": "checked" if key else "not checked",
    "tiers": {name: name in checked for name in found},
  }
  lines = [f"{problem.where}: {problem.what}" for problem in problems]
  skipped = _left_out(document["tiers"], "was not checked")
  if problems:
    count = "1 defect" if len(lines) == 1 else f"{len(lines)} defects"
    problem = f"{args.path} has {count}"
    return Result(document, [*lines, *skipped], REFUSED, problem)
  signature = "the signature is right" if key else "no signature was checked"
  lines = [
    f"{args.path}: every chunk of {', '.join(checked)} opens; {signature}"
  ]
  return Result(document, [*lines, *skipped])


def _left_out(present: dict[str, bool], what: str) -> list[str]:
  names = [name for name, opened in present.items() if not opened]
  return [f"tier {name} {what}" for name in names]


def decrypt(args: argparse.Namespace, kind: str) -> Result:
  """Open the tiers that open, and write them unencrypted."""
  if args.leaves is not None:
    where = f"{args.source}/tiers/NAME"
    raise Failure(USAGE, f"--leaves is for the folder of a tier, {where}")
  metadata = None if args.metadata is None else read_json_object(args.metadata)
  identities = KeyReader(args).identities(args.identity)
  total = keyjax.checkpoint.stored_size(args.source)
  with progress_bar("opening", args.json, 2 * total, "both"):
    unlocked = keyjax.tiers.restore(
      args.source,
      identities,
      tiers=args.tier or None,
      step=args.step,
      name=args.name,
      run=args.of_run,
      verify_key=read_verify_key(args.verify_key),
      impl="host",
    )
    keyjax.checkpoint.write_weights(
      args.target,
      unlocked.params,
      kind,
      metadata=metadata,
      shard_bytes=args.max_shard_size,
    )
  present = unlocked.present
  document = {"format": kind, "path": args.target, "tiers": present}
  opened = ", ".join(name for name in present if present[name])
  lines = [f"{args.target} holds {opened}, unencrypted"]
  return Result(document, [*lines, *_left_out(present, "is left out")])
