"""Envelopes: one data key, wrapped for any number of recipients.

An envelope is one canonical JSON document:

    {"checkpoint": id, "mac": ..., "recipients": [stanza, ...],
     "revoked": [id, ...], "sealed": ..., "version": 1}

Each stanza holds the data key wrapped for one recipient, bound to the
checkpoint's id. `sealed` holds what a stranger need not know: the time of
creation, the dates at which recipients expire, and what the caller adds. As in
age, an HMAC-SHA-256 under a key derived from the data key covers everything
else, and commits to the data key.

**Guarantees.** Who holds none of the recipients' keys learns the checkpoint's
id, the ids of recipients and of the revoked, and sizes. They can destroy an
envelope, and nothing more: no field can be changed, no stanza added, removed,
swapped, or moved from another checkpoint, without the one flat error.

**Known breaks.** Nothing says who wrote an envelope: every recipient knows the
data key and can wrap it for others, and whoever knows a public key can wrap a
data key of their own for it. Sign the checkpoint to know. Dates and `revoked`
bind those who open with KeyJAX. Removing a recipient with `rewrap`
takes nothing back from somebody who opened the old envelope or kept it: after
a revocation the data must be encrypted again, under a new data key.

References:
  F. Valsorda and B. Cox, "The age file encryption format",
  c2sp.org/age, 2021-2025.
"""

import dataclasses
import datetime
import hmac
from collections.abc import Iterable
from typing import Any

from keyjax.errors import CannotOpen, KeyringError
from keyjax.keyring.document import VERSION, check_ids, parse_document
from keyjax.keyring.encoding import check_name, dump, encode, field, parse
from keyjax.keyring.recipients.base import (
  Identity,
  Private,
  Recipient,
  check_data_key,
  parse_time,
)
from keyjax.keys import Secret
from keyjax.seal import SealError, seal, unseal

MAX_EXTRA = 2**18


@dataclasses.dataclass(frozen=True, repr=False)
class Opened(Private):
  """What an envelope held.

  Attributes:
    data_key: 32 bytes; it does not show in `repr`.
    checkpoint: the id of the checkpoint that it belongs to.
    extra: what the caller added when it was sealed.
    created: the time of creation, if it was given.
    id: the recipient's id for whom it opened.
  """

  data_key: bytes
  checkpoint: str
  extra: dict[str, Any]
  created: str | None
  id: str


def seal_envelope(
  data_key: bytes,
  recipients: Iterable[Recipient],
  *,
  checkpoint: str,
  created: str | None = None,
  extra: dict[str, Any] | None = None,
  revoked: Iterable[str] = (),
) -> bytes:
  """Wraps a data key for every recipient.

  Args:
    data_key: 32 uniform bytes, used for this checkpoint alone.
    recipients: who can open it, each alone; a passphrase is the only one.
    checkpoint: the checkpoint's id, public: letters, digits, `._:/+@=-`.
    created: a time by RFC 3339, sealed.
    extra: whatever fits into 256 KiB of JSON, sealed.
    revoked: ids of former recipients, public; they are told so.

  Returns:
    The envelope, canonical JSON in ASCII.

  Raises:
    KeyringError: no recipient or too many, one of them twice or revoked, a
      name or a time that cannot be used, or `extra` does not fit.
    ValueError: the data key is not 32 bytes.

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
  people = list(recipients)
  context = _context(checkpoint)
  ids = [check_name(person.id, "recipient") for person in people]
  check_ids(ids)
  former = {check_name(name, "revoked") for name in revoked}
  if both := sorted(former & set(ids)):
    raise KeyringError(f"{both[0]} is both a recipient and revoked")
  document = {
    "checkpoint": checkpoint,
    "recipients": [p.wrap(data_key, context) | {"id": p.id} for p in people],
    "revoked": sorted(former),
    "sealed": _seal_private(data_key, context, people, created, extra),
    "version": VERSION,
  }
  envelope = dump(document | {"mac": _mac(data_key, document)})
  parse_document(envelope)  # What is written can be read, or is not written.
  return envelope


def open_envelope(
  envelope: bytes,
  identities: Iterable[Identity],
  *,
  checkpoint: str | None = None,
) -> Opened:
  """Opens an envelope with the first identity that can.

  Args:
    envelope: what `seal_envelope` returned.
    identities: keys to try.
    checkpoint: the id that it must belong to, if that is known.

  Returns:
    The data key, and what was sealed beside it.

  Raises:
    CannotOpen: no identity opens it, or it was altered.
    KeyringError: it is not an envelope, of an unknown version, of another
      checkpoint; or the key for it is disabled, revoked or expired.
  """
  document = parse_document(envelope)
  if checkpoint is not None and document["checkpoint"] != checkpoint:
    raise KeyringError(
      f"this envelope belongs to checkpoint {document['checkpoint']}, not to "
      "the one that is opened"
    )
  context = _context(document["checkpoint"])
  data_key, name = _unwrap(document, list(identities), context)
  mac = document.pop("mac")
  if not hmac.compare_digest(mac, _mac(data_key, document)):
    raise CannotOpen
  private = _open_private(data_key, context, document["sealed"])
  _check_expiry(field(private, "expires", dict), name)
  return Opened(
    data_key,
    document["checkpoint"],
    field(private, "extra", dict),
    field(private, "created", str) or None,
    name,
  )


def rewrap(
  envelope: bytes,
  identities: Iterable[Identity],
  recipients: Iterable[Recipient],
  *,
  revoked: Iterable[str] = (),
  reinstate: bool = False,
) -> bytes:
  """Wraps the same data key for other recipients; no tensor is touched.

  Right to add somebody or to rotate a key that did not leak. Wrong to revoke:
  who had access may hold the data key, or the old envelope, for ever.

  Args:
    envelope: what `seal_envelope` returned.
    identities: keys that open it.
    recipients: everybody who can open the new one; a date at which one expires
      is given again, or is gone.
    revoked: ids to add to those that are told they were revoked.
    reinstate: whether recipients may be among those of old; they then are
      revoked no more.

  Returns:
    The new envelope, with the old id, time and extra data.

  Raises:
    KeyringError: as `open_envelope` and `seal_envelope`; or a recipient was
      revoked.
  """
  opened = open_envelope(envelope, identities)
  people = list(recipients)
  former = set(parse_document(envelope)["revoked"])
  back = former & {person.id for person in people}
  if back and not reinstate:
    raise KeyringError(
      f"recipient {min(back)} was revoked; only `reinstate` gives access again"
    )
  return seal_envelope(
    opened.data_key,
    people,
    checkpoint=opened.checkpoint,
    created=opened.created,
    extra=opened.extra,
    revoked=[*(former - back), *revoked],
  )


def expiries(envelope: bytes, data_key: bytes) -> dict[str, str]:
  """Returns until when recipients have access, by id; see `Expiring`.

  Args:
    envelope: one that was opened.
    data_key: what it held.
  """
  document = parse_document(envelope)
  context = _context(document["checkpoint"])
  return _open_private(data_key, context, document["sealed"])["expires"]


def inspect_envelope(envelope: bytes) -> dict[str, Any]:
  """Returns what anybody can read: nothing of it is authenticated.

  Returns:
    `version`, `checkpoint`, `recipients` (ids) and `revoked` (ids).

  Raises:
    KeyringError: it is not an envelope, or of an unknown version.
  """
  document = parse_document(envelope)
  return {
    "version": document["version"],
    "checkpoint": document["checkpoint"],
    "recipients": [stanza["id"] for stanza in document["recipients"]],
    "revoked": document["revoked"],
  }


def _context(checkpoint: str) -> bytes:
  return b"keyjax/envelope/1/" + checkpoint.encode("ascii")


def _mac(data_key: bytes, document: dict[str, Any]) -> str:
  key = Secret(data_key).derive("keyring/envelope/mac", 32)
  return encode(hmac.digest(key, dump(document), "sha256"))


def _unwrap(
  document: dict[str, Any], identities: list[Identity], context: bytes
) -> tuple[bytes, str]:
  """Returns the data key and whose it was; says why a key may not be used."""
  refused: KeyringError | None = None
  for stanza in document["recipients"]:
    for identity in identities:
      try:
        data_key = identity.unwrap(stanza, context)
      except KeyringError as error:
        # A sentence that tells why goes before the flat one.
        flat = refused is None or isinstance(refused, CannotOpen)
        refused = error if flat else refused
        continue
      if data_key is not None:
        return data_key, stanza["id"]
  for identity in identities:
    if identity.id in document["revoked"]:
      raise KeyringError(f"recipient {identity.id} was revoked")
  raise refused or CannotOpen()


def _seal_private(
  data_key: bytes,
  context: bytes,
  people: list[Recipient],
  created: str | None,
  extra: dict[str, Any] | None,
) -> str:
  if created is not None:
    parse_time(created)
  expires = {p.id: p.expires for p in people if hasattr(p, "expires")}
  private = {"created": created or "", "expires": expires, "extra": extra or {}}
  data = dump(private)
  if len(data) > MAX_EXTRA:
    raise KeyringError(f"{len(data)} bytes beside the key: at most {MAX_EXTRA}")
  return encode(seal(_private_key(data_key), data, context))


def _open_private(
  data_key: bytes, context: bytes, sealed: str
) -> dict[str, Any]:
  try:
    data = unseal(
      _private_key(data_key), field({"": sealed}, "", bytes), context
    )
  except SealError:
    raise CannotOpen from None
  return parse(data, "sealed data", size=MAX_EXTRA, items=MAX_EXTRA)


def _private_key(data_key: bytes) -> bytes:
  return Secret(data_key).derive("keyring/envelope/private", 32)


def _check_expiry(expires: dict[str, Any], name: str) -> None:
  if name not in expires:
    return
  time = field(expires, name, str)
  if parse_time(time) <= datetime.datetime.now(datetime.UTC):
    raise KeyringError(f"recipient {name} expired at {time}")
