"""`keyjax card make`, `check` and `show`."""

import argparse
import os

from keyjax import card as cards
from keyjax.cli.card_tables import lines
from keyjax.cli.documents import json_object
from keyjax.cli.output import Result
from keyjax.cli.people import People, verify_key


def make(args: argparse.Namespace) -> Result:
  """Makes a card, and signs it if there is a key."""
  if os.path.lexists(args.out):  # Before anybody types a passphrase.
    raise FileExistsError(f"{args.out} exists; it is not overwritten")
  card = cards.make(
    [row for path in args.rows for row in cards.read_rows(path)],
    args.scheme,
    model=args.model,
    keys=args.key_fingerprint,
    answers=json_object(args.answers),
  )
  signer = People(args).signer(args.sign)
  if signer is not None:
    card = cards.sign(card, signer)
  data = cards.format_card(card)
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
  said = [
    f"{args.out} speaks of {document['scheme']}, {signed}",
    f"{len(open_items)} items of the checklist are not answered",
  ]
  return Result(document, said)


def check(args: argparse.Namespace) -> Result:
  """Checks a card's form, and what else is given."""
  card, key = cards.read_card(args.card), verify_key(args.verify_key)
  if key is not None:
    cards.verify(card, key)
  if args.model is not None:
    cards.check_model(card, args.model)
  signature = "checked" if key else _unchecked(card)
  model = "not checked" if args.model is None else "checked"
  document = {"card": args.card, "model": model, "signature": signature}
  said = f"form: right; signature: {signature}; model: {model}"
  return Result(document, [f"{args.card}: {said}"])


def _unchecked(card: cards.Card) -> str:
  return "not checked" if "signature" in card else "none"


def show(args: argparse.Namespace) -> Result:
  """Prints a card."""
  card = cards.read_card(args.card)
  return Result(card, lines(card))
