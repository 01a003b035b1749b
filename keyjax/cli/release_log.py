"""`keyjax release-log export` and `verify`."""

from __future__ import annotations

import argparse
import json
import pathlib
from typing import Any

import keyjax
from keyjax import private_files
from keyjax.cli.exit_codes import REFUSED, Failure, keyring_errors_as
from keyjax.cli.inputs import refuse_existing
from keyjax.cli.key_reader import read_verify_key
from keyjax.cli.output import Result
from keyjax.cli.parsers import Parser, add_command, add_group, add_path

_EXPORT = "keyjax release-log export state log"
_VERIFY = """\
keyjax release-log verify log --verify-key @log.key.pub \\
  --receipts receipts.jsonl"""


def add(commands: Any) -> None:
  """Add `release-log` and its two commands."""
  parser = add_group(
    commands,
    "release-log",
    summary="export and verify the log of a release server",
    details="""
The log is a file with one JSON object in each line, and a signed note
(c2sp.org/tlog-checkpoint) about the root of the tree over them (RFC 6962).
""",
    examples="\n".join((_EXPORT, _VERIFY)),
  )
  inner = parser.add_subparsers(
    metavar="COMMAND", required=True, parser_class=Parser
  )
  _add_export(inner)
  _add_verify(inner)


def _add_export(commands: Any) -> None:
  parser = add_command(
    commands,
    export,
    "export",
    summary="write the log of a state to a folder",
    details="""
OUT gets log.jsonl and log.note. The server may be running. Nothing is verified:
see `verify`.
""",
    examples=_EXPORT,
  )
  add_path(
    parser,
    "state",
    complete="directory",
    metavar="STATE",
    help="the folder of --state",
  )
  add_path(parser, "target", metavar="OUT", help="the new folder")


def export(args: argparse.Namespace) -> Result:
  """Write the log of a state."""
  folder = pathlib.Path(args.target)
  refuse_existing(args.target)
  count = 0
  with (
    keyring_errors_as(REFUSED),
    keyjax.release.read_state(args.state) as (note, entries),
  ):
    folder.mkdir(parents=True)
    with (folder / "log.jsonl").open("wb") as file:
      for entry in entries:
        file.write(entry + b"\n")
        count += 1
    (folder / "log.note").write_text(note, encoding="utf-8")
  return Result({"entries": count, "log": args.target}, [f"{count} entries"])


def _add_verify(commands: Any) -> None:
  parser = add_command(
    commands,
    verify,
    "verify",
    summary="verify an exported log",
    details="""
The note's signature is verified, and that it is about these entries. Receipts
are those that callers keep (`receipts` in their file): each must be of an entry
that is in the log, about that request, and its note of a beginning of this log.
""",
    examples=_VERIFY,
  )
  add_path(
    parser,
    "log",
    complete="directory",
    metavar="LOG",
    help="folder of log.jsonl and log.note",
  )
  parser.add_argument(
    "--verify-key",
    required=True,
    metavar="KEY",
    help="public key of the log: keyjax-ed25519:... or @FILE",
  )
  add_path(
    parser,
    "--receipts",
    nargs="+",
    action="extend",
    default=[],
    metavar="FILE",
    help="receipts of callers",
  )


def verify(args: argparse.Namespace) -> Result:
  """Verify an exported log, and receipts against it."""
  log = keyjax.release.log
  key = read_verify_key(args.verify_key)
  assert key is not None  # It is required.
  folder = pathlib.Path(args.log)
  head = log.open_note((folder / "log.note").read_text("utf-8"), key)
  receipts = [x for path in args.receipts for x in _receipts(path)]
  with (folder / "log.jsonl").open("rb") as file:
    entries = [line.removesuffix(b"\n") for line in file]
  heads = [log.open_note(x["note"], key) for x in receipts]
  log.check_entries(entries, [head, *heads])
  for receipt in receipts:
    _check_receipt(receipt, entries)
  if head.size != len(entries):
    raise Failure(REFUSED, f"{args.log} has entries that were not signed")
  document = {
    "entries": head.size,
    "receipts": len(receipts),
    "releases": sum(json.loads(x)["event"] == "release" for x in entries),
    "server": head.origin,
  }
  line = (
    f"{head.origin}: {head.size} entries, {document['releases']} releases, "
    f"{len(receipts)} receipts: all as signed"
  )
  return Result(document, [line])


def _receipts(path: str) -> list[dict[str, Any]]:
  lines = private_files.as_utf8(pathlib.Path(path).read_bytes()).splitlines()
  found = [json.loads(line) for line in lines]
  kinds = {"entry": int, "note": str, "request": str}
  for receipt in found:
    if not isinstance(receipt, dict) or any(
      type(receipt.get(name)) is not kind for name, kind in kinds.items()
    ):
      raise Failure(REFUSED, f"{path} holds something else than receipts")
  return found


def _check_receipt(receipt: dict[str, Any], entries: list[bytes]) -> None:
  entry = {}
  if 0 <= receipt["entry"] < len(entries):
    entry = json.loads(entries[receipt["entry"]])
  if (entry.get("event"), entry.get("request")) != (
    "release",
    receipt["request"],
  ):
    raise Failure(
      REFUSED, f"the release {receipt['request']} is not in the log"
    )
