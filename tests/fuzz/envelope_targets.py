"""Envelopes, as anyone and as a recipient can write them."""

import functools
import json
import random
from collections.abc import Sequence
from typing import Any

import keyjax
from keyjax import keyring
from keyjax.errors import KeyringError
from keyjax.keyring import encoding, envelope
from tests.formats.vectors import vectors
from tests.fuzz.mutate import (
  change_bytes,
  change_json,
  either,
  is_object,
  where,
)
from tests.fuzz.sources import CHEAP, PASSPHRASE, ROOT, written
from tests.fuzz.target import Finding, Target

_DATA_KEY = bytes.fromhex(vectors("envelopes")["data_key"])


@functools.cache
def _tree() -> keyring.Broadcast:
  return keyring.Broadcast(ROOT, depth=3, revoked=[2])


@functools.cache
def identities() -> list[Any]:
  """Return one identity of each kind."""
  found: dict[str, Any] = {}
  for case in vectors("key_files")["keys"]:
    key = keyring.parse_key(case["plain"])
    if not isinstance(key, keyring.SigningKey):
      found[case["kind"]] = keyring.as_identity(key)
  kms = vectors("envelopes")["kms"]
  file = written(f"{kms['name']}.key", kms["secret"].encode())
  service = keyring.KmsKey(keyring.LocalKms(file.parent), kms["name"])
  words = keyring.Passphrase(PASSPHRASE, CHEAP, max_cost=CHEAP)
  return [*found.values(), service, words]


def _envelopes() -> list[bytes]:
  found = vectors("envelopes")
  names = ("envelope", "with_passphrase")
  return [found[name].encode() for name in names]


def read_envelope(data: bytes) -> Any:
  """Return what every identity that opens an envelope gets."""
  keyring.inspect_envelope(data)
  keyring.trace_licensee(data, [])
  found: list[Any] = []
  refused: KeyringError | None = None
  for identity in identities():
    try:
      opened = keyring.open_envelope(data, [identity])
    except KeyringError as error:
      refused = error
      continue
    content = opened.data_key, opened.checkpoint, opened.metadata
    found.append((*content, opened.created))
  if refused is not None and not found:
    raise refused
  if any(one != found[0] for one in found):
    raise Finding("two recipients read different contents")
  return found[0]


def _rewrap(data: bytes) -> Any:
  """Do what an owner does with an envelope that a recipient has written."""
  read_envelope(data)
  opened = keyring.open_envelope(data, identities())
  kept = keyring.existing_recipients(data, identities())
  keyring.rewrap_envelope(data, identities(), kept)
  root = keyring.as_identity(ROOT)
  return opened.id, keyring.rewrap_envelope(
    data, identities(), [root, _tree()], revoked=["aes:1"]
  )


def _sign_envelope(document: dict[str, Any]) -> bytes:
  document.pop("mac", None)
  mac = envelope._mac(_DATA_KEY, document)
  return encoding.dump(document | {"mac": mac})


def _change_as_recipient(
  rng: random.Random, data: bytes, others: Sequence[bytes]
) -> bytes:
  """Change an envelope as someone who knows its data key can."""
  return _sign_envelope(json.loads(change_json(rng, data, others)))


def read_private_part(data: bytes) -> Any:
  """Open and rewrap an envelope with another private part."""
  document = json.loads(_envelopes()[0])
  key = envelope._private_key(_DATA_KEY)
  sealed = keyjax.seal.seal(key, data, envelope.envelope_context("model-a/7"))
  document["sealed"] = encoding.encode(sealed)
  return _rewrap(_sign_envelope(document))


def _private_parts() -> list[bytes]:
  expires = {identities()[1].id: "2999-01-01T00:00:00Z"}
  private = {"created": "2026-01-01T00:00:00Z", "expires": expires}
  return [encoding.dump(private | {"extra": {"note": ["x", 1]}})]


TARGETS = [
  Target(
    name="envelope",
    read=read_envelope,
    seeds=_envelopes,
    refusals=(KeyringError,),
    change=either(change_bytes, where(is_object, change_json)),
    authentic=True,
    secrets=lambda: [_DATA_KEY.hex(), PASSPHRASE],
  ),
  Target(
    name="envelope_of_recipient",
    read=_rewrap,
    seeds=lambda: _envelopes()[:1],
    refusals=(KeyringError,),
    change=where(is_object, _change_as_recipient),
    secrets=lambda: [_DATA_KEY.hex()],
  ),
  Target(
    name="envelope_private_part",
    read=read_private_part,
    seeds=_private_parts,
    refusals=(KeyringError,),
    change=either(where(is_object, change_json), change_bytes),
  ),
]
