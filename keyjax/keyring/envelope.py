"""Envelopes: one data key, wrapped for any number of recipients.

An envelope is one canonical JSON document:

    {"checkpoint": id, "mac": ..., "recipients": [stanza, ...],
     "revoked": [id, ...], "sealed": ..., "version": 1}

Each stanza holds the data key wrapped for one recipient, bound to the id of the
checkpoint. `sealed` is encrypted for the recipients: the time of creation, the
dates at which recipients expire, and metadata of the caller. As in age, an
HMAC-SHA-256 under a key derived from the data key covers everything else, and
commits to the data key.

**Guarantees.** Someone without a key of a recipient learns only the id of the
checkpoint, the ids of recipients and of the revoked, and sizes. They can
destroy an envelope. They cannot change a field, add, remove or swap stanzas, or
copy one from another checkpoint: the envelope then does not open, with an error
that deliberately omits the cause.

**Known breaks.** An envelope does not authenticate its author: every recipient
knows the data key and can wrap it for others, and anyone who knows a public key
can wrap a data key of their own for it. Sign the checkpoint to prevent that.
Dates and `revoked` bind only users of KeyJAX. Removing a recipient with
`rewrap_envelope` does not help against one who opened the old envelope or kept
a copy: to revoke access, encrypt the data again under a new data key.

References:
  F. Valsorda and B. Cox, "The age file encryption format",
  c2sp.org/age, 2021-2025.
"""

import dataclasses
import datetime
import hmac
from collections.abc import Iterable, Sequence
from typing import Any

from keyjax.arguments import show
from keyjax.errors import CannotOpen, KeyringError
from keyjax.keyring.encoding import check_name, dump, encode, field, parse
from keyjax.keyring.recipients import (
  Identity,
  Private,
  Recipient,
  check_data_key,
  parse_time,
)
from keyjax.seal import SealError, seal, unseal
from keyjax.secrets import Secret

VERSION = 1
MAX_SIZE = 2**24
MAX_PRIVATE = 2**18
MAX_RECIPIENTS = 1024
_MAX_STANZA_FIELDS = 12
_MAX_ITEMS = MAX_RECIPIENTS * (_MAX_STANZA_FIELDS + 2)
_CONTEXT = b"keyjax/envelope/1/"
_FIELDS = {"checkpoint", "mac", "recipients", "revoked", "sealed", "version"}


@dataclasses.dataclass(frozen=True, repr=False)
class Opened(Private):
  """Contents of an envelope.

  Attributes:
    data_key: 32 bytes, not shown in `repr`.
    checkpoint: Id of the checkpoint that it belongs to.
    metadata: Metadata of the caller of `seal_envelope`.
    created: Time of creation, if it was given.
    id: Id of the recipient that opened it.
  """

  data_key: bytes
  checkpoint: str
  metadata: dict[str, Any]
  created: str | None
  id: str


def seal_envelope(
  data_key: bytes,
  recipients: Iterable[Recipient],
  *,
  checkpoint: str,
  created: str | None = None,
  metadata: dict[str, Any] | None = None,
  revoked: Iterable[str] = (),
) -> bytes:
  """Wrap a data key for every recipient.

  Args:
    data_key: 32 uniform bytes, used for this checkpoint only.
    recipients: Recipients, each of whom can open the envelope. A
      passphrase must be the only one.
    checkpoint: Public id of the checkpoint: letters, digits, `._:/+@=-`.
    created: RFC 3339 time of creation; it is encrypted.
    metadata: JSON object of at most 256 KiB; it is encrypted.
    revoked: Public ids of former recipients, who are told so.

  Returns:
    The envelope, canonical JSON in ASCII.

  Raises:
    KeyringError: If there is no recipient or too many, one of them is listed
      twice or revoked, a name or a time cannot be used, or the metadata does
      not fit.
    ValueError: If the data key is not 32 bytes.

  Example:
    >>> from keyjax import Secret
    >>> from keyjax.keyring import SymmetricKey
    >>> key = SymmetricKey(Secret.generate())
    >>> envelope = seal_envelope(bytes(32), [key], checkpoint="model-a/7")
    >>> open_envelope(envelope, [key]).checkpoint
    'model-a/7'
  """
  check_data_key(data_key)
  check_name(checkpoint, "checkpoint")
  recipients = list(recipients)
  context = envelope_context(checkpoint)
  ids = [check_name(r.id, "recipient") for r in recipients]
  check_ids(ids)
  former = {check_name(name, "revoked") for name in revoked}
  if both := sorted(former & set(ids)):
    raise KeyringError(f"{both[0]} is both a recipient and revoked")
  document = {
    "checkpoint": checkpoint,
    "recipients": [
      r.wrap(data_key, context) | {"id": r.id} for r in recipients
    ],
    "revoked": sorted(former),
    "sealed": _seal_private(data_key, context, recipients, created, metadata),
    "version": VERSION,
  }
  envelope = dump(document | {"mac": _mac(data_key, document)})
  parse_document(envelope)  # Never write what cannot be read.
  return envelope


def open_envelope(
  envelope: bytes,
  identities: Iterable[Identity],
  *,
  checkpoint: str | None = None,
) -> Opened:
  """Open an envelope with the first identity that can.

  Args:
    envelope: Envelope that `seal_envelope` returned.
    identities: Identities to try.
    checkpoint: Expected id of the checkpoint, if it is known.

  Returns:
    The data key, and what was encrypted with it.

  Raises:
    CannotOpen: If no identity opens it, or it was altered.
    KeyringError: If it is not an envelope, of an unknown version, or of another
      checkpoint; or if the key for it is disabled, revoked or expired.
  """
  document = parse_document(envelope)
  if checkpoint is not None and document["checkpoint"] != checkpoint:
    raise KeyringError(
      f"this envelope belongs to checkpoint {document['checkpoint']}, not to "
      "the one that is opened"
    )
  identities = list(identities)
  mac = document.pop("mac")
  refused: KeyringError | None = None
  for stanza in document["recipients"]:
    for identity in identities:
      try:
        opened = _open_with(identity, stanza, document, mac)
      except KeyringError as error:
        # Prefer a specific error over the generic one.
        if refused is None or isinstance(refused, CannotOpen):
          refused = error
        continue
      if opened is not None:
        return opened
  for identity in identities:
    if identity.id in document["revoked"]:
      raise KeyringError(f"recipient {identity.id} was revoked")
  raise refused or CannotOpen()


def _open_with(
  identity: Identity,
  stanza: dict[str, Any],
  document: dict[str, Any],
  mac: str,
) -> Opened | None:
  """Open an envelope with an identity; None if the stanza is for another.

  Args:
    identity: Identity to try.
    stanza: One recipient of the envelope.
    document: The envelope without its MAC.
    mac: Its MAC.
  """
  data_key = identity.unwrap(stanza, envelope_context(document["checkpoint"]))
  if data_key is None:
    return None
  if not hmac.compare_digest(mac, _mac(data_key, document)):
    raise CannotOpen
  private = read_private(document, data_key)
  _check_expiry(field(private, "expires", dict), stanza["id"])
  return Opened(
    data_key=data_key,
    checkpoint=document["checkpoint"],
    metadata=field(private, "extra", dict),
    created=field(private, "created", str) or None,
    id=stanza["id"],
  )


def inspect_envelope(envelope: bytes) -> dict[str, Any]:
  """Return the public part of an envelope; nothing of it is authenticated.

  Returns:
    `version`, `checkpoint`, `recipients` (ids) and `revoked` (ids).

  Raises:
    KeyringError: If it is not an envelope, or of an unknown version.
  """
  document = parse_document(envelope)
  return {
    "version": document["version"],
    "checkpoint": document["checkpoint"],
    "recipients": [stanza["id"] for stanza in document["recipients"]],
    "revoked": document["revoked"],
  }


def check_ids(ids: Sequence[str]) -> None:
  """Raise a KeyringError unless these recipients can share an envelope."""
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
      "a passphrase is the only recipient of an envelope: with others it would "
      "say nothing about who wrote it"
    )


def parse_document(envelope: bytes) -> dict[str, Any]:
  """Read the public part of an envelope; nothing is authenticated yet.

  An attacker writes these bytes. Their number and that of their parts is
  limited before they are parsed, every field has one type and one encoding, and
  unknown fields are refused.

  Returns:
    The JSON object, with the expected fields and types.

  Raises:
    KeyringError: If it is not an envelope, or of an unknown version.
  """
  document = parse(envelope, "an envelope", size=MAX_SIZE, items=_MAX_ITEMS)
  version = field(document, "version", int)
  if version != VERSION:
    raise KeyringError(
      f"an envelope of version {show(version)}: this release of KeyJAX reads "
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
  if not isinstance(stanza, dict) or not 1 <= len(stanza) <= _MAX_STANZA_FIELDS:
    raise KeyringError("a recipient of an envelope is not a small object")
  if not all(type(value) in (str, int) for value in stanza.values()):
    raise KeyringError("a recipient of an envelope has a field of another type")
  check_name(field(stanza, "id", str), "recipient")
  return stanza


def envelope_context(checkpoint: str) -> bytes:
  """Return what the stanzas of a checkpoint's envelope are bound to."""
  return _CONTEXT + checkpoint.encode("ascii")


def checkpoint_of(context: bytes) -> str:
  """Return the checkpoint of an `envelope_context`.

  Raises:
    KeyringError: If it is another context.

  Example:
    >>> checkpoint_of(envelope_context("model-a/7"))
    'model-a/7'
  """
  checkpoint = context.removeprefix(_CONTEXT).decode("ascii", "replace")
  if not context.startswith(_CONTEXT):
    raise KeyringError("this context is not that of an envelope")
  return check_name(checkpoint, "checkpoint")


def _mac(data_key: bytes, document: dict[str, Any]) -> str:
  key = Secret(data_key).derive("keyring/envelope/mac", 32)
  return encode(hmac.digest(key, dump(document), "sha256"))


def _seal_private(
  data_key: bytes,
  context: bytes,
  recipients: list[Recipient],
  created: str | None,
  metadata: dict[str, Any] | None,
) -> str:
  """Return what only recipients can read: base64 of sealed JSON."""
  if created is not None:
    parse_time(created)
  expires = {r.id: r.expires for r in recipients if hasattr(r, "expires")}
  private = {
    "created": created or "",
    "expires": expires,
    "extra": metadata or {},
  }
  data = dump(private)
  if len(data) > MAX_PRIVATE:
    raise KeyringError(
      f"{len(data)} bytes of metadata: an envelope has at most {MAX_PRIVATE}"
    )
  return encode(seal(_private_key(data_key), data, context))


def read_private(document: dict[str, Any], data_key: bytes) -> dict[str, Any]:
  """Return the decrypted part of an envelope.

  Args:
    document: Envelope, as `parse_document` returned it.
    data_key: Its data key.

  Raises:
    CannotOpen: If it was altered.
  """
  sealed = field(document, "sealed", bytes)
  context = envelope_context(document["checkpoint"])
  try:
    data = unseal(_private_key(data_key), sealed, context)
  except SealError:
    raise CannotOpen from None
  return parse(data, "sealed data", size=MAX_PRIVATE, items=MAX_PRIVATE)


def _private_key(data_key: bytes) -> bytes:
  return Secret(data_key).derive("keyring/envelope/private", 32)


def _check_expiry(expires: dict[str, Any], name: str) -> None:
  if name not in expires:
    return
  time = field(expires, name, str)
  if parse_time(time) <= datetime.datetime.now(datetime.UTC):
    raise KeyringError(f"recipient {name} expired at {time}")
