"""The outside of an envelope: what is read before any key is tried.

An attacker writes these bytes. Their number and that of their parts is limited
before they are parsed, every field has one type and one spelling, and what is
not known is refused.
"""

from collections.abc import Sequence
from typing import Any

from keyjax.errors import KeyringError
from keyjax.keyring.encoding import check_name, field, parse

VERSION = 1
MAX_SIZE = 2**24
MAX_RECIPIENTS = 1024
_MAX_FIELDS = 12
_MAX_ITEMS = MAX_RECIPIENTS * (_MAX_FIELDS + 2)
_FIELDS = {"checkpoint", "mac", "recipients", "revoked", "sealed", "version"}


def check_ids(ids: Sequence[str]) -> None:
  """Raises a KeyringError unless these recipients can share an envelope."""
  if not ids:
    raise KeyringError("an envelope needs at least one recipient")
  if len(ids) > MAX_RECIPIENTS:
    raise KeyringError(
      f"{len(ids)} recipients: an envelope has at most {MAX_RECIPIENTS}; "
      "broadcast encryption is for more"
    )
  if len(set(ids)) < len(ids):
    raise KeyringError("a recipient is listed twice")
  if "passphrase" in ids and len(ids) > 1:
    raise KeyringError(
      "a passphrase is the only recipient of an envelope: beside others it "
      "would say nothing about who wrote it"
    )


def parse_document(envelope: bytes) -> dict[str, Any]:
  """Reads an envelope's outside; nothing of it is authenticated yet.

  Returns:
    The JSON object, with the fields and types that it should have.

  Raises:
    KeyringError: it is not an envelope, or of an unknown version.
  """
  document = parse(envelope, "an envelope", size=MAX_SIZE, items=_MAX_ITEMS)
  version = field(document, "version", int)
  if version != VERSION:
    raise KeyringError(
      f"an envelope of version {version}: this release of KeyJAX reads "
      f"version {VERSION}"
    )
  if set(document) != _FIELDS:
    raise KeyringError("an envelope has missing or unknown fields")
  check_name(field(document, "checkpoint", str), "checkpoint")
  field(document, "mac", bytes, 32)
  field(document, "sealed", bytes)
  for name in field(document, "revoked", list):
    check_name(name, "revoked")
  stanzas = field(document, "recipients", list)
  check_ids([_checked_stanza(stanza)["id"] for stanza in stanzas])
  return document


def _checked_stanza(stanza: Any) -> dict[str, Any]:
  if not isinstance(stanza, dict) or not 1 <= len(stanza) <= _MAX_FIELDS:
    raise KeyringError("a recipient of an envelope is not a small object")
  if not all(type(value) in (str, int) for value in stanza.values()):
    raise KeyringError("a recipient of an envelope has a field of another type")
  check_name(field(stanza, "id", str), "recipient")
  return stanza
