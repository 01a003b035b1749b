"""Cards as bytes: canonical JSON, their schema, their signature."""

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
from keyjax.schemes.registry import is_known, security_class

KIND = "card"
VERSION = 1
Card = dict[str, Any]
_CONTEXT = b"keyjax/card/1/signed\x00"
_MAX_BYTES = 1 << 24
_MAX_ITEMS = 1 << 19
_MAX_DEPTH = 64
_MAX_MESSAGE = 300


@functools.cache
def schema() -> dict[str, Any]:
  """Return the JSON Schema of cards, draft 2020-12."""
  text = resources.files("keyjax.card").joinpath("schema.json").read_text()
  return json.loads(text)


@functools.cache
def _validator() -> Any:
  return jsonschema.Draft202012Validator(schema())


def check(card: Mapping[str, Any]) -> None:
  """Check everything about a card except its signature and its model.

  Raises:
    CardError: If it has another version or form, a value is outside its
      interval, a class is not the scheme's, the checklist is incomplete, or
      something looks like a private key. The class of a scheme that is not
      registered here is not checked; see `unknown_mechanisms`.
  """
  if card.get("keyjax") != KIND:
    raise CardError("this is not a KeyJAX card")
  if card.get("version") != VERSION or type(card["version"]) is not int:
    raise CardError(
      f"this card has another version than {VERSION}, the only one that this "
      "release of KeyJAX reads"
    )
  _check_depth(card)  # What follows is recursive.
  _refuse_secrets(card)  # Before any message that repeats a field.
  error = jsonschema.exceptions.best_match(_validator().iter_errors(card))
  if error is not None:
    raise CardError(_message_of(error))
  _check_numbers(card)
  _check_shares(card)
  _check_classes(card)
  checklist.check(card["checklist"])


def _message_of(error: Any) -> str:
  where = "/".join(map(str, error.absolute_path)) or "the card"
  message = " ".join(error.message.split())
  if len(message) > _MAX_MESSAGE:
    message = f"it does not fit the schema's {error.validator!r}"
  return f"{where}: {message}"


def _check_numbers(card: Mapping[str, Any]) -> None:
  scores = [(x["condition"], x) for x in card["accuracy"]]
  for attack in card["attacks"]:
    scores += [(attack["attack"], x) for x in (attack, *attack["curve"])]
  others = list(card.get("evasion", []))
  for part, found in card.get("leaks", {}).items():
    others += found
    scores += [(part, x["control"]) for x in found if "control" in x]
  scores += [(x.get("attack", x["condition"]), x) for x in others]
  for name, score in scores:
    if not score["low"] <= score["value"] <= score["high"]:
      raise CardError(f"{name}: the value is outside its interval")
  for row in (*card["accuracy"], *card["attacks"], *others):
    if row["run"] >= len(card["runs"]):
      raise CardError(f"there is no run {row['run']}")


def _check_shares(card: Mapping[str, Any]) -> None:
  """Refuse a share below 0; the metrics of some tasks, as a cosine, may be."""
  shares = card["data"].get("metric", "accuracy") == "accuracy"
  found = [(x["condition"], x) for x in card["accuracy"] if shares]
  for attack in card["attacks"]:
    if shares or attack["goal"] != "function":
      found += [(attack["attack"], x) for x in (attack, *attack["curve"])]
  for name, score in found:
    if score["low"] < 0:
      raise CardError(f"{name}: a share is below 0")


def unknown_mechanisms(card: Mapping[str, Any]) -> list[str]:
  """Return the mechanisms of a card that are not registered here.

  They are those of other packages: the card alone states their class.
  """
  names = {part["mechanism"] for part in card["scheme"]["parts"]}
  return sorted(name for name in names if not is_known(name))


def _check_classes(card: Mapping[str, Any]) -> None:
  unknown = unknown_mechanisms(card)
  for part in card["scheme"]["parts"]:
    if part["mechanism"] in unknown:
      continue
    known = security_class(part["mechanism"], part["options"])
    if part["class"] != known:
      raise CardError(
        f"the class of {part['mechanism']} is {known!r}, not {part['class']!r}"
      )


def _check_depth(card: Mapping[str, Any]) -> None:
  level: list[Any] = [card]
  for _ in range(_MAX_DEPTH):
    containers = [
      x.values() if isinstance(x, Mapping) else x
      for x in level
      if isinstance(x, Mapping | list)
    ]
    level = [x for container in containers for x in container]
  if level:
    raise CardError(f"a card has at most {_MAX_DEPTH} levels")


def _refuse_secrets(card: Mapping[str, Any]) -> None:
  # The digest and the signature are public, and look like keys.
  searched = {k: v for k, v in card.items() if k not in ("model", "signature")}
  if any(map(looks_secret, _texts(searched))):
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
  """Return the card with a signature over everything else in it.

  Args:
    card: Card from `make`; its signature is replaced if it has one.
    key: Ed25519 or ML-DSA-65 key.
  """
  header = {"algorithm": key.kind, "key": key.id}
  unsigned = dict(card) | {"signature": header}
  signature = key.private.sign(_signed_message(unsigned))
  return unsigned | {"signature": header | {"signature": encode(signature)}}


def verify(card: Mapping[str, Any], key: VerifyKey) -> None:
  """Check a card's signature; the network is not used.

  Raises:
    CardError: If there is no signature, or it is not valid under this key.
    KeyringError: If the key is of an unknown kind.
  """
  signature = card.get("signature")
  if signature is None:
    raise CardError("this card is not signed")
  try:
    header = signature["algorithm"], signature["key"]
    if header != (signature_kind(key), verify_key_id(key)):
      raise InvalidSignature
    data = field(signature, "signature", bytes)
    key.verify(data, _signed_message(card))
  except (InvalidSignature, KeyringError):
    raise CardError(
      "this card was changed, or was not signed with the expected key"
    ) from None


def _signed_message(card: Mapping[str, Any]) -> bytes:
  header = {k: card["signature"][k] for k in ("algorithm", "key")}
  return _CONTEXT + dump(dict(card) | {"signature": header})


def check_model(card: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
  """Check that a card is about this checkpoint or file.

  Raises:
    CardError: If it has no model's digest, or another one.
    OSError: If the model cannot be read.
  """
  if card["model"] is None:
    raise CardError("this card does not have a model's digest")
  if digest(path) != card["model"]:
    raise CardError(f"{path} is not the model that this card is about")


def format_card(card: Mapping[str, Any]) -> bytes:
  """Return the card as canonical JSON with a line break.

  Raises:
    CardError: See `check`.
  """
  check(card)
  try:
    return dump(dict(card)) + b"\n"
  except KeyringError as error:
    raise CardError(str(error)) from None


def parse_card(data: bytes) -> Card:
  """Parse the output of `format_card`, and check it.

  Raises:
    CardError: If it is not canonical JSON, or fails `check`.
  """
  try:
    body = data.removesuffix(b"\n")
    card = parse(body, "a card", size=_MAX_BYTES, items=_MAX_ITEMS)
  except KeyringError as error:
    raise CardError(str(error)) from None
  check(card)
  return card


def read_card(path: str | os.PathLike[str]) -> Card:
  """Read a card from a file; see `parse_card`."""
  with pathlib.Path(path).open("rb") as file:
    return parse_card(file.read(_MAX_BYTES + 2))
