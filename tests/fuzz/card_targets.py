"""Sealed messages, cards and rows of measurements."""

import functools
import io
import json
import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from keyjax import card as cards
from keyjax import keyring, seal
from keyjax.cli import card_text
from keyjax.errors import KeyringError, SealError
from tests import cards as card_cases
from tests import leak_rows
from tests.fuzz.mutate import (
  change_bytes,
  change_json,
  either,
  is_object,
  keep_size,
  where,
)
from tests.fuzz.sources import folder, golden, written
from tests.fuzz.target import Finding, Target

# ------------------------------------------------------------ sealed messages

_LONG = bytes(range(32))
_SHORT = bytes(range(16))


def read_sealed(data: bytes) -> Any:
  """Return what a message holds: whole, in a stream and in a slice."""
  key = _LONG if len(data) > 1000 else _SHORT
  context = b"context"
  keyring.trace_licensee(data, [])
  plain = b"golden" * (5000 if key is _LONG else 1)
  _check_slice(key, data, plain)
  streamed: list[bytes] = []
  with_error = False
  try:
    for chunk in seal.Reader(key, io.BytesIO(data), context):
      streamed.append(chunk)
  except SealError:
    with_error = True
  whole = seal.unseal(key, data, context)
  if with_error or b"".join(streamed) != whole:
    raise Finding("a stream and a message differ")
  return whole


def _check_slice(key: bytes, data: bytes, plain: bytes) -> None:
  try:
    found = seal.unseal(key, data, b"context", start=1, stop=5)
  except (SealError, ValueError):
    return
  if found != plain[1:5]:
    raise Finding("another slice without an error")


def read_sealed_array(data: bytes) -> Any:
  """Open a message inside `jit`."""
  message_key = seal.seal_key(_SHORT, b"context", salt=data[:24])
  opened, valid = seal.unseal_array(message_key, np.frombuffer(data, np.uint8))
  if not bool(valid):
    if np.asarray(opened).any():
      raise Finding("bytes that are not authentic")
    raise SealError
  return np.asarray(opened).tobytes()


# ---------------------------------------------------------------------- cards


@functools.cache
def _signer() -> keyring.SigningKey:
  return keyring.SigningKey("ed25519", bytes(32))


@functools.cache
def _cards() -> list[bytes]:
  card = card_cases.one_card()
  told = cards.make(leak_rows.rows(), "hpnn")
  made = (card, cards.sign(card, _signer()), told)
  return [cards.format_card(x) for x in made]


def read_signed_card(data: bytes) -> Any:
  """Return a card that its signer has vouched for."""
  card = cards.parse_card(data)
  cards.verify(card, _signer().public)
  return cards.format_card(card)


def read_card(data: bytes) -> Any:
  """Return a card and its text, without its signature."""
  card = cards.parse_card(data)
  return card_text.lines(card), cards.unknown_mechanisms(card)


def _change_card(
  rng: random.Random, data: bytes, others: Sequence[bytes]
) -> bytes:
  return change_json(rng, data, others) + b"\n"


@functools.cache
def _rows() -> list[bytes]:
  return [path.read_bytes() for path in card_cases.write_rows(folder())]


def read_rows(data: bytes) -> Any:
  """Return the card of rows."""
  rows = cards.read_rows(written("rows", data))
  fixed = json.loads(_rows()[1])
  card = cards.make(rows + fixed, "counter")
  return cards.format_card(card)


@functools.cache
def _leak_rows() -> list[bytes]:
  lines = [json.dumps(row) for row in leak_rows.rows()]
  return ["\n".join(lines).encode()]


def read_leak_rows(data: bytes) -> Any:
  """Return the card of rows about leaks, and its text."""
  card = cards.make(cards.read_rows(written("rows", data)), "hpnn")
  return cards.format_card(card), card_text.lines(card)


def _change_rows(
  rng: random.Random, data: bytes, others: Sequence[bytes]
) -> bytes:
  lines = data.splitlines()
  at = rng.randrange(len(lines))
  lines[at] = change_json(rng, lines[at], ())
  return b"\n".join(lines)


TARGETS = [
  Target(
    name="sealed",
    read=read_sealed,
    seeds=lambda: [golden("sealed.bin"), golden("sealed_128.bin")],
    refusals=(SealError,),
    authentic=True,
    secrets=lambda: [repr(_LONG)],
  ),
  Target(
    name="sealed_array",
    read=read_sealed_array,
    seeds=lambda: [golden("sealed_128.bin")],
    refusals=(SealError,),
    change=keep_size,
    authentic=True,
  ),
  Target(
    name="card",
    read=read_card,
    seeds=_cards,
    refusals=(cards.CardError,),
    change=either(change_bytes, where(is_object, _change_card)),
  ),
  Target(
    name="card_signed",
    read=read_signed_card,
    seeds=_cards,
    refusals=(cards.CardError, KeyringError),
    change=either(change_bytes, where(is_object, _change_card)),
    authentic=True,
  ),
  Target(
    name="rows",
    read=read_rows,
    seeds=lambda: _rows()[:1],
    refusals=(cards.CardError,),
    change=either(change_bytes, _change_rows),
  ),
  Target(
    name="leak_rows",
    read=read_leak_rows,
    seeds=_leak_rows,
    refusals=(cards.CardError,),
    change=either(change_bytes, _change_rows),
  ),
]
