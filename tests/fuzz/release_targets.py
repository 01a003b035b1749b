"""What callers, approvers and a log give to a release server."""

import base64
import functools
from typing import Any

from keyjax import keyring
from keyjax.errors import ContentError, KeyringError
from keyjax.keyring.encoding import dump
from keyjax.release import approvals, asks, cbor, log
from tests.fuzz.mutate import (
  change_bytes,
  change_json,
  either,
  is_object,
  where,
)
from tests.fuzz.target import Target
from tests.release import nitro_documents
from tests.release.world import REQUEST, ask_body

_CHANGE = either(change_bytes, where(is_object, change_json))


@functools.cache
def _key() -> keyring.SigningKey:
  return keyring.SigningKey.generate()


def read_ask(data: bytes) -> Any:
  """Read what a caller asks, and write it again."""
  found = asks.parse_ask(data, "0" * 64)
  fields = ("checkpoint", "evidence", "id", "stanza")
  document = {name: getattr(found, name) for name in fields}
  document["approvals"] = [*found.approvals]
  assert dump(document) == data
  return document


def read_approval(data: bytes) -> Any:
  """Return who has approved, for a token of Alice."""
  token = data.decode("ascii", "replace")
  return approvals.approver_of(token, REQUEST, {"alice": _key().public})


def read_note(data: bytes) -> Any:
  """Verify a note."""
  return log.open_note(data.decode("utf-8", "replace"), _key().public)


def read_document(data: bytes) -> Any:
  """Verify an attestation document for the nonce of a request."""
  verifier = nitro_documents.verifier()
  return verifier.verify(data, nonce=nitro_documents.NONCE, caller="0" * 64)


TARGETS = [
  Target(
    name="release_cbor",
    read=cbor.decode,
    seeds=lambda: [
      nitro_documents.payload(),
      base64.b64decode(nitro_documents.document()),
    ],
    refusals=(ValueError,),
  ),
  Target(
    name="release_document",
    read=read_document,
    seeds=lambda: [nitro_documents.document()],
    refusals=(KeyringError,),
    authentic=True,
  ),
  Target(
    name="release_ask",
    read=read_ask,
    seeds=lambda: [ask_body(stanza={"id": "a:b", "n": 1}, approvals=["a.b.c"])],
    refusals=(KeyringError,),
    change=_CHANGE,
  ),
  Target(
    name="release_request",
    read=approvals.parse_request,
    seeds=lambda: [dump(REQUEST)],
    refusals=(KeyringError,),
    change=_CHANGE,
  ),
  Target(
    name="release_approval",
    read=read_approval,
    seeds=lambda: [approvals.approve(REQUEST, _key(), seconds=10**6).encode()],
    refusals=(KeyringError,),
  ),
  Target(
    name="release_note",
    read=read_note,
    seeds=lambda: [log.sign_note("a/b", log.Tree(), _key()).encode()],
    refusals=(ContentError,),
    authentic=True,
  ),
]
