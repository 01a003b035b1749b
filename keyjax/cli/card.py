"""`keyjax card make`, `check` and `show`."""

from __future__ import annotations

import argparse
from typing import Any

import keyjax
from keyjax.cli.inputs import read_json_object, refuse_existing
from keyjax.cli.key_reader import KeyReader, read_verify_key
from keyjax.cli.output import Result
from keyjax.cli.parsers import (
  Parser,
  add_command,
  add_group,
  add_passphrase,
  add_path,
  add_signer,
  add_verify_key,
)

_MAKE = """\
keyjax card make --rows rows.jsonl --scheme counter --model model-1 \\
  --sign file:owner.key --out card.json"""
_CHECK = """\
keyjax card check card.json --verify-key @owner.key.pub --model model-1"""
_SHOW = "keyjax card show card.json"


def add(commands: Any) -> None:
  """Add `card` and its three commands."""
  parser = add_group(
    commands,
    "card",
    summary="make, check and show security cards",
    details="""
A card states what was measured of one locked model: its scheme and security
class, accuracy with and without keys, what each attack achieved at what cost,
what it tells of its training data, where and when. It contains no key. See
`keyjax card COMMAND --help`.
""",
    examples="\n".join((_MAKE, _CHECK, _SHOW)),
  )
  inner = parser.add_subparsers(
    metavar="COMMAND", required=True, parser_class=Parser
  )
  _add_make(inner)
  _add_check(inner)
  _add_show(inner)


def _add_make(commands: Any) -> None:
  parser = add_command(
    commands,
    make,
    "make",
    summary="make a card from rows of measurements",
    details="""
The rows are those of experiments.main (results.json) and experiments.attack
(rows.jsonl), and, if there are any, those of experiments.robustness
(robustness.json), privacy (privacy.json), copies (copies.json) and recording
(recording.json). A score without an interval is refused, and so is a privacy
figure without what it assumes. The checklist is that of Carlini et al., arXiv
1902.06705; some items are answered by the rows, and the others by --answers:
{"ITEM": {"answer": "yes", "because": "..."}}, where the answer is "yes", "no"
or "does not apply".
""",
    examples=_MAKE,
  )
  add_path(
    parser,
    "--rows",
    nargs="+",
    action="extend",
    required=True,
    metavar="FILE",
    help="files with rows",
  )
  parser.add_argument(
    "--scheme",
    metavar="LABEL",
    help="label of the scheme, if the rows are of several",
  )
  add_path(
    parser,
    "--model",
    metavar="PATH",
    help="the locked checkpoint or file that the card is about",
  )
  parser.add_argument(
    "--key-fingerprint",
    action="append",
    default=[],
    metavar="TEXT",
    help="the public name of a key, or VERSION=NAME; can be repeated",
  )
  add_path(
    parser,
    "--answers",
    metavar="FILE.json",
    help="the owner's answers to the checklist",
  )
  add_path(
    parser, "--out", required=True, metavar="CARD.json", help="the new card"
  )
  add_signer(parser)
  add_passphrase(parser)


def make(args: argparse.Namespace) -> Result:
  """Make a card, and sign it if a key is given."""
  refuse_existing(args.out)  # Before anyone types a passphrase.
  card = keyjax.card.make(
    [row for path in args.rows for row in keyjax.card.read_rows(path)],
    args.scheme,
    model=args.model,
    keys=args.key_fingerprint,
    answers=read_json_object(args.answers),
  )
  signer = KeyReader(args).signer(args.sign)
  if signer is not None:
    card = keyjax.card.sign(card, signer)
  data = keyjax.card.format_card(card)
  with open(args.out, "xb") as file:
    file.write(data)
  open_items = [
    x["item"] for x in card["checklist"] if x["answer"] == "not answered"
  ]
  document = {
    "attacks": len(card["attacks"]),
    "card": args.out,
    "not_answered": open_items,
    "scheme": card["scheme"]["label"],
    "signed": signer is not None,
  }
  signed = f"signed by {signer.id}" if signer else "not signed"
  lines = [
    f"{args.out} is about {document['scheme']}, {signed}",
    f"{len(open_items)} items of the checklist are not answered",
  ]
  return Result(document, lines)


def _add_check(commands: Any) -> None:
  parser = add_command(
    commands,
    check,
    "check",
    summary="check a card's form, signature and model",
    details="""
Without --verify-key the signature is not checked, and anyone may have written
the card. With it, an unsigned card is refused. The class of a scheme of another
package, which is not installed here, is not checked either: the output names
it. The network is not used.
""",
    examples=_CHECK,
  )
  _add_card(parser)
  add_verify_key(parser)
  add_path(
    parser,
    "--model",
    metavar="PATH",
    help="checkpoint or file that the card must be about",
  )


def check(args: argparse.Namespace) -> Result:
  """Check a card's form, and whatever else is given."""
  card = keyjax.card.read_card(args.card)
  key = read_verify_key(args.verify_key)
  if key is not None:
    keyjax.card.verify(card, key)
  if args.model is not None:
    keyjax.card.check_model(card, args.model)
  signature = "none"
  if key is not None:
    signature = "checked"
  elif "signature" in card:
    signature = "not checked"
  model = "not checked" if args.model is None else "checked"
  unknown = keyjax.card.unknown_mechanisms(card)
  document = {
    "card": args.card,
    "model": model,
    "signature": signature,
    "unknown_mechanisms": unknown,
  }
  line = f"{args.card}: form: right; signature: {signature}; model: {model}"
  stated = [
    f"{name} is not known here: its class is not checked" for name in unknown
  ]
  return Result(document, [line, *stated])


def _add_show(commands: Any) -> None:
  parser = add_command(
    commands,
    show,
    "show",
    summary="print a card as text",
    details="The form is checked; the signature is not: see `check`.",
    examples=_SHOW,
  )
  _add_card(parser)


def show(args: argparse.Namespace) -> Result:
  """Print a card."""
  from keyjax.cli import card_text  # It imports `rich`, which is slow.

  card = keyjax.card.read_card(args.card)
  return Result(card, card_text.lines(card))


def _add_card(parser: Any) -> None:
  add_path(parser, "card", metavar="CARD.json", help="file of the card")
