"""`keyjax inspect` and `keyjax verify`."""

import argparse
import json
from typing import Any

from keyjax import checkpoint
from keyjax.cli.envelopes import public_view
from keyjax.cli.failures import REFUSED
from keyjax.cli.output import Result, size
from keyjax.cli.people import People, verify_key
from keyjax.cli.progress import working


def inspect(args: argparse.Namespace) -> Result:
  """Says what a checkpoint holds, as far as the keys go."""
  found = public_view(args.path)
  people = People(args)
  if args.public or not (args.identity or people.default()):
    return Result(found, [*_outside(found), "give -i SOURCE to see more"])
  found = checkpoint.inspect(args.path, people.identities(args.identity))
  return Result(found, [*_outside(found), *_inside(found)])


def _outside(found: dict[str, Any]) -> list[str]:
  envelope = found["envelope"]
  people = [f"recipient   {name}" for name in envelope["recipients"]]
  people += [f"revoked     {name}" for name in envelope["revoked"]]
  return [
    f"format      {found['format']} {found['version']}",
    f"checkpoint  {envelope['checkpoint']}",
    f"on disk     {size(found['bytes'])}",
    *people,
  ]


def _inside(found: dict[str, Any]) -> list[str]:
  leaves = found["leaves"]
  width = max(len(leaf["path"]) for leaf in leaves)
  total = sum(leaf["bytes"] for leaf in leaves)
  return [
    f"step        {found['step']}",
    f"signed      {'yes, by whom says verify' if found['signed'] else 'no'}",
    f"metadata    {json.dumps(found['metadata'], sort_keys=True)}",
    f"leaves      {len(leaves)}, {size(total)}",
    *(
      f"  {leaf['path']:{width}}  {leaf['dtype']}{leaf['shape']}"
      for leaf in leaves
    ),
  ]


def verify(args: argparse.Namespace) -> Result:
  """Opens every chunk, and reports each that does not open."""
  total = public_view(args.path)["bytes"]
  identities = People(args).identities(args.identity)
  key = verify_key(args.verify_key)
  with working("opening every chunk", args.json, total, "read"):
    problems = checkpoint.verify(args.path, identities, verify_key=key)
  document = {
    "path": args.path,
    "problems": [problem._asdict() for problem in problems],
    "signature": "checked" if key else "not checked",
  }
  if not problems:
    signature = "the signature is right" if key else "no signature was checked"
    return Result(document, [f"{args.path}: every chunk opens; {signature}"])
  lines = [f"{problem.where}: {problem.what}" for problem in problems]
  count = len({problem.where for problem in problems})
  places = "1 place" if count == 1 else f"{count} places"
  sentence = f"{args.path} is damaged in {places}"
  return Result(document, lines, REFUSED, sentence)
