"""A card as bytes: canonical JSON, its schema, its signature."""

import functools
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

import jsonschema
from cryptography.exceptions import InvalidSignature

from keyjax.card import checklist
from keyjax.card.digest import digest
from keyjax.card.errors import CardError
from keyjax.errors import KeyringError
from keyjax.keyring.encoding import dump, encode, field, parse
from keyjax.keyring.signing import (
  SigningKey,
  VerifyKey,
  signature_kind,
  verify_key_id,
)
from keyjax.leaks import looks_secret
from keyjax.schemes.registry import security_class

KIND = "card"
VERSION = 1
Card = dict[str, Any]
_CONTEXT = b"keyjax/card/1/signed\x00"
_MAX_BYTES = 1 << 24
_MAX_ITEMS = 1 << 19
_MAX_SENTENCE = 300


@functools.cache
def schema() -> dict[str, Any]:
  """Returns the JSON Schema of cards, of draft 2020-12."""
  text = resources.files("keyjax.card").joinpath("schema.json").read_text()
  return json.loads(text)


def check(card: Mapping[str, Any]) -> None:
  """Checks everything about a card but its signature and its model.

  Raises:
    CardError: it is of another version or form, a value lies outside its
      interval, a class is not the scheme's, the checklist is not whole, or
      something looks like a private key.
  """
  if card.get("keyjax") != KIND:
    raise CardError("this is not a card of KeyJAX")
  if card.get("version") != VERSION or type(card["version"]) is not int:
    raise CardError(
      f"a card of another version than {VERSION}, the one that this release "
      "of KeyJAX reads"
    )
  _refuse_secrets(card)  # Before any sentence that repeats a field.
  validator = jsonschema.Draft202012Validator(schema())
  error = jsonschema.exceptions.best_match(validator.iter_errors(card))
  if error is not None:
    raise CardError(_sentence(error))
  _check_numbers(card)
  _check_classes(card)
  checklist.check(card["checklist"])


def _sentence(error: Any) -> str:
  where = "/".join(map(str, error.absolute_path)) or "the card"
  said = " ".join(error.message.split())
  if len(said) > _MAX_SENTENCE:
    said = f"it does not fit the schema's {error.validator!r}"
  return f"{where}: {said}"


def _check_numbers(card: Mapping[str, Any]) -> None:
  scores = [(x["condition"], x) for x in card["accuracy"]]
  for attack in card["attacks"]:
    scores += [(attack["attack"], x) for x in (attack, *attack["curve"])]
  for name, score in scores:
    if not score["low"] <= score["value"] <= score["high"]:
      raise CardError(f"{name}: the value lies outside its interval")
  for row in (*card["accuracy"], *card["attacks"]):
    if row["run"] >= len(card["runs"]):
      raise CardError(f"there is no run {row['run']}")


def _check_classes(card: Mapping[str, Any]) -> None:
  for part in card["scheme"]["parts"]:
    known = security_class(part["mechanism"], part["options"])
    if part["class"] != known:
      raise CardError(
        f"{part['mechanism']} is of the class {known!r}, not {part['class']!r}"
      )


def _refuse_secrets(card: Mapping[str, Any]) -> None:
  # The digest and the signature are public, and look like keys.
  shown = {k: v for k, v in card.items() if k not in ("model", "signature")}
  if any(map(looks_secret, _texts(shown))):
    raise CardError("something in this card looks like a private key")


def _texts(value: Any) -> Iterator[str]:
  if isinstance(value, str):
    yield value
  elif isinstance(value, Mapping):
    for name, inner in value.items():
      yield name
      yield from _texts(inner)
  elif isinstance(value, list):
    for inner in value:
      yield from _texts(inner)


def sign(card: Mapping[str, Any], key: SigningKey) -> Card:
  """Returns the card with a signature over all of the rest.

  Args:
    card: from `make`; a signature that it has is replaced.
    key: Ed25519 or ML-DSA-65.
  """
  named = {"algorithm": key.kind, "key": key.id}
  made = dict(card) | {"signature": named}
  signature = key.private.sign(_message(made))
  return made | {"signature": named | {"signature": encode(signature)}}


def verify(card: Mapping[str, Any], key: VerifyKey) -> None:
  """Checks a card's signature; nothing is asked of the network.

  Raises:
    CardError: there is none, or not this one's.
    KeyringError: the key is of no known kind.
  """
  signature = card.get("signature")
  if signature is None:
    raise CardError("this card is not signed")
  try:
    named = signature["algorithm"], signature["key"]
    if named != (signature_kind(key), verify_key_id(key)):
      raise InvalidSignature
    made = field(signature, "signature", bytes)
    key.verify(made, _message(card))
  except (InvalidSignature, KeyringError):
    raise CardError(
      "this card was changed, or not signed with the key that is expected"
    ) from None


def _message(card: Mapping[str, Any]) -> bytes:
  named = {k: card["signature"][k] for k in ("algorithm", "key")}
  return _CONTEXT + dump(dict(card) | {"signature": named})


def check_model(card: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
  """Checks that a card speaks of this checkpoint or file.

  Raises:
    CardError: it speaks of none, or of another.
    OSError: it cannot be read.
  """
  if card["model"] is None:
    raise CardError("this card speaks of no model's bytes")
  if digest(path) != card["model"]:
    raise CardError(f"{path} is not the model that this card speaks of")


def format_card(card: Mapping[str, Any]) -> bytes:
  """Returns canonical JSON and the end of a line.

  Raises:
    CardError: see `check`.
  """
  check(card)
  try:
    return dump(dict(card)) + b"\n"
  except KeyringError as error:
    raise CardError(str(error)) from None


def parse_card(data: bytes) -> Card:
  """Reads what `format_card` returned, and checks it.

  Raises:
    CardError: it is not canonical JSON, or see `check`.
  """
  try:
    body = data.removesuffix(b"\n")
    card = parse(body, "a card", size=_MAX_BYTES, items=_MAX_ITEMS)
  except KeyringError as error:
    raise CardError(str(error)) from None
  check(card)
  return card


def read_card(path: str | os.PathLike[str]) -> Card:
  """Reads a card's file; see `parse_card`."""
  with pathlib.Path(path).open("rb") as file:
    return parse_card(file.read(_MAX_BYTES + 2))
