"""Other recipients for the same data key: adding, removing, rotating.

A stanza of an envelope is also valid in a new envelope of the same checkpoint
and data key. So a recipient is added without the public keys of the others.
"""

import json
from collections.abc import Iterable

from keyjax.errors import KeyringError
from keyjax.keyring.envelope import (
  open_envelope,
  parse_document,
  read_private,
  seal_envelope,
)
from keyjax.keyring.recipients import Identity, Private, Recipient, Stanza


def rewrap_envelope(
  envelope: bytes,
  identities: Iterable[Identity],
  recipients: Iterable[Recipient],
  *,
  revoked: Iterable[str] = (),
  reinstate: bool = False,
) -> bytes:
  """Wrap the same data key for other recipients; no tensor is read.

  This is right for adding a recipient, or for rotating a key that did not leak.
  It does not revoke access: former recipients may have kept the data key or the
  old envelope.

  Args:
    envelope: Envelope that `seal_envelope` returned.
    identities: Identities, of which one opens it.
    recipients: All recipients of the new envelope. The date at which one
      expires must be given again.
    revoked: Ids to add to those that are told they were revoked.
    reinstate: Whether recipients may be among the formerly revoked, who are
      then no longer revoked.

  Returns:
    The new envelope, with the id, time and metadata of the old one.

  Raises:
    KeyringError: As `open_envelope` and `seal_envelope`; or if a recipient was
      revoked, or is one of `existing_recipients` of another envelope.
  """
  opened = open_envelope(envelope, identities)
  recipients = list(recipients)
  for recipient in recipients:
    if isinstance(recipient, _ExistingRecipient):
      recipient.check_is_of(envelope)
  return seal_envelope(
    opened.data_key,
    recipients,
    checkpoint=opened.checkpoint,
    created=opened.created,
    metadata=opened.metadata,
    revoked=next_revoked(envelope, recipients, revoked, reinstate=reinstate),
  )


def next_revoked(
  envelope: bytes,
  recipients: Iterable[Recipient],
  revoked: Iterable[str],
  *,
  reinstate: bool,
) -> list[str]:
  """Return the revoked ids of the envelope that replaces another.

  Args:
    envelope: Envelope to replace, which an identity has opened.
    recipients: Recipients of the new envelope.
    revoked: Ids to add to those that the old envelope lists.
    reinstate: As `rewrap_envelope`.

  Raises:
    KeyringError: If a recipient, or a licensee of a `Broadcast`, was revoked
      and is not reinstated.
  """
  if isinstance(revoked, str):
    raise TypeError("revoked is a list of ids, got one text")
  document = parse_document(envelope)
  former = set(document["revoked"])
  back = former & {recipient.id for recipient in recipients}
  again = [f"recipient {name}" for name in sorted(back)]
  again += _readmitted(document["recipients"], recipients)
  if again and not reinstate:
    raise KeyringError(
      f"{again[0]} was revoked; only `reinstate` gives access again"
    )
  return sorted((former - back).union(revoked))


def _readmitted(
  stanzas: Iterable[Stanza], recipients: Iterable[Recipient]
) -> list[str]:
  """Return which licensees of trees are revoked in stanzas and not again."""
  checks = {r.id: r.readmits for r in recipients if hasattr(r, "readmits")}
  found = (
    (checks[stanza["id"]](stanza), stanza["id"])
    for stanza in stanzas
    if stanza["id"] in checks
  )
  return [f"licensee {n} of {tree}" for n, tree in found if n is not None]


def existing_recipients(
  envelope: bytes, identities: Iterable[Identity]
) -> list[Recipient]:
  """Return the recipients of an envelope, to wrap its data key for them again.

  Args:
    envelope: Envelope that `seal_envelope` returned. It is authenticated, so
      that no stanza of an attacker is copied.
    identities: Identities, of which one opens it.

  Returns:
    Recipients for `rewrap_envelope` of this envelope only. They keep the dates
    at which they expire.

  Raises:
    KeyringError: As `open_envelope`.

  Example:
    >>> from keyjax import Secret
    >>> from keyjax.keyring import SymmetricKey
    >>> a, b = (SymmetricKey(Secret.generate()) for _ in "ab")
    >>> envelope = seal_envelope(bytes(32), [a], checkpoint="model/1")
    >>> both = rewrap_envelope(
    ...   envelope, [a], [*existing_recipients(envelope, [a]), b])
    >>> open_envelope(both, [a]).id == a.id, open_envelope(both, [b]).id == b.id
    (True, True)
  """
  data_key = open_envelope(envelope, identities).data_key
  expires = read_private(parse_document(envelope), data_key)["expires"]
  return [
    _ExistingRecipient(stanza, data_key, expires.get(stanza["id"]), envelope)
    for stanza in json.loads(envelope)["recipients"]
  ]


class _ExistingRecipient(Private):
  """A recipient that returns its stanza, for the data key of that stanza."""

  def __init__(
    self,
    stanza: Stanza,
    data_key: bytes,
    expires: str | None,
    envelope: bytes,
  ):
    self._envelope = envelope
    self.id = str(stanza["id"])
    self._stanza = {k: v for k, v in stanza.items() if k != "id"}
    self._data_key = data_key
    if expires is not None:
      self.expires = expires

  def check_is_of(self, envelope: bytes) -> None:
    if envelope != self._envelope:
      raise KeyringError(
        "the recipients were changed since they were read, perhaps by another "
        "process: read them again"
      )

  def wrap(self, data_key: bytes, context: bytes) -> Stanza:
    if data_key != self._data_key:
      raise KeyringError(
        f"recipient {self.id} is known only by the old stanza: give its public "
        "key"
      )
    return dict(self._stanza)
