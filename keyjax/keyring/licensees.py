"""Licensees: a copy for each, and whose copy it is that leaked.

Each licensee has a key of their own, derived from the keyring by their name,
and receives a checkpoint sealed under a data key of its own. The salts of that
copy's messages bear a mark: 12 random bytes, and 12 of an HMAC-SHA-256 of them
under the licensee's mark key. Who holds the keyring tells from any one sealed
message, or from the envelope, whose copy it is (`trace`); nobody else sees that
there is a mark.

**Guarantees.** A salt goes into the key of its message: a mark that was changed
leaves a message that does not open. A copy bears another's mark by chance with
a probability of 2^-96.

**Known breaks.** The mark is in the ciphertext, not in the weights. A licensee
who opens their copy and publishes the weights, or seals them again, leaves no
mark: that needs a watermark or a fingerprint in the weights. Two licensees who
compare copies see that they differ, and can publish a file that holds parts of
each: it opens for nobody, and both are found. Whoever holds the keyring can
make a copy with anybody's mark: a mark accuses, a signature proves.
"""

import hmac
import os
from typing import TYPE_CHECKING

from keyjax.errors import KeyringError
from keyjax.keyring.entries import Grant
from keyjax.keyring.envelope import inspect_envelope
from keyjax.keyring.recipients.base import Private, SymmetricKey
from keyjax.keys import Secret

if TYPE_CHECKING:
  from keyjax.keyring.ring import Keyring

_HALF = 12


class Licensee(Private):
  """Somebody who receives a copy of their own.

  Attributes:
    name: who.
    withdrawn: whether nothing is wrapped for them any more.
  """

  __slots__ = ("_mark", "_secret", "name", "withdrawn")

  def __init__(self, grant: Grant, licensing: Secret):
    """Not for users; see `Keyring.issue` and `Keyring.licensee`."""
    self.name = grant.name
    self.withdrawn = grant.withdrawn
    self._secret = licensing.child(f"licensee/{grant.name}")
    self._mark = self._secret.derive("mark", 32)

  @property
  def id(self) -> str:
    """The id that their stanzas bear."""
    return SymmetricKey(self.secret).id

  @property
  def secret(self) -> Secret:
    """Their key, to be handed to them: it opens every copy made for them."""
    return self._secret.child("key")

  def recipient(self) -> SymmetricKey:
    """Returns their key, to wrap the data key of their copy.

    Raises:
      KeyringError: they were withdrawn.
    """
    if self.withdrawn:
      raise KeyringError(f"licensee {self.name} was withdrawn")
    return SymmetricKey(self.secret)

  def salt(self) -> bytes:
    """Returns a fresh salt with their mark: 24 bytes.

    `checkpoint.save(..., salt=licensee.salt)` marks every message of a copy.

    Example:
      >>> licensee = Licensee(Grant("lab", "", False), Secret.generate())
      >>> licensee.bears(licensee.salt()), licensee.bears(bytes(24))
      (True, False)
    """
    fresh = os.urandom(_HALF)
    return fresh + self._tag(fresh)

  def bears(self, message: bytes) -> bool:
    """Returns whether a sealed message, or its salt, bears their mark."""
    fresh, tag = message[:_HALF], message[_HALF : 2 * _HALF]
    return hmac.compare_digest(self._tag(fresh), bytes(tag))

  def _tag(self, fresh: bytes) -> bytes:
    return hmac.digest(self._mark, fresh, "sha256")[:_HALF]


def trace(data: bytes, keyring: "Keyring") -> str | None:
  """Tells whose copy it is, from the ciphertext alone.

  Args:
    data: an envelope, or a sealed message of a copy (its first 24 bytes do).
    keyring: what issued the licensees.

  Returns:
    The licensee's name; None if it is nobody's copy.

  Example:
    >>> import tempfile
    >>> from keyjax.keyring import Keyring
    >>> from keyjax.seal import seal
    >>> ring = Keyring.create(
    ...   tempfile.mkdtemp() + "/ring", Secret.generate(), "team-a")
    >>> lab = ring.issue("lab")
    >>> trace(seal(bytes(32), b"weights", salt=lab.salt()), ring)
    'lab'
  """
  ids = _ids(data)
  for grant in keyring.licensees:
    licensee = keyring.licensee(grant.name)
    if licensee.id in ids or licensee.bears(data):
      return licensee.name
  return None


def _ids(data: bytes) -> set[str]:
  try:
    return set(inspect_envelope(data)["recipients"])
  except KeyringError:
    return set()
