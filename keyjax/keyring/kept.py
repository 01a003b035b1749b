"""The recipients that an envelope has, to be given to the next one.

A stanza that is there can stand in a new envelope of the same checkpoint and
data key as it is: so somebody is added without the public keys of the others.
"""

import json
from collections.abc import Iterable

from keyjax.errors import KeyringError
from keyjax.keyring.envelope import expiries, open_envelope
from keyjax.keyring.recipients.base import Identity, Private, Recipient, Stanza


def kept(envelope: bytes, identities: Iterable[Identity]) -> list[Recipient]:
  """Returns the recipients of an envelope as they stand there.

  Args:
    envelope: what `seal_envelope` returned; it must open, so that no stanza
      of a stranger is taken over.
    identities: keys that open it.

  Returns:
    Recipients for `rewrap` of this envelope, and for nothing else; those that
    expire still do.

  Raises:
    KeyringError: as `open_envelope`.

  Example:
    >>> from keyjax import Secret
    >>> from keyjax.keyring import SymmetricKey, rewrap, seal_envelope
    >>> a, b = (SymmetricKey(Secret.generate()) for _ in "ab")
    >>> envelope = seal_envelope(bytes(32), [a], checkpoint="model/1")
    >>> both = rewrap(envelope, [a], [*kept(envelope, [a]), b])
    >>> open_envelope(both, [a]).id == a.id, open_envelope(both, [b]).id == b.id
    (True, True)
  """
  opened = open_envelope(envelope, identities)
  expires = expiries(envelope, opened.data_key)
  return [
    _Kept(stanza, opened.data_key, expires.get(stanza["id"]))
    for stanza in json.loads(envelope)["recipients"]
  ]


class _Kept(Private):
  """A stanza as a recipient: it wraps the one data key that it wraps."""

  def __init__(self, stanza: Stanza, data_key: bytes, expires: str | None):
    self.id = str(stanza["id"])
    self._stanza = {k: v for k, v in stanza.items() if k != "id"}
    self._data_key = data_key
    if expires is not None:
      self.expires = expires

  def wrap(self, data_key: bytes, context: bytes) -> Stanza:
    if data_key != self._data_key:
      raise KeyringError(
        f"recipient {self.id} is known by what was wrapped for it alone: give "
        "its public key"
      )
    return dict(self._stanza)
