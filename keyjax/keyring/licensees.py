"""Licensees: a copy for each, and tracing of leaked copies.

Each licensee has a key of their own, derived from the keyring by their name,
and receives a checkpoint sealed under a data key of its own. The salts of the
messages in that copy are marked: 12 random bytes, and 12 of an HMAC-SHA-256 of
them under the mark key of the licensee. The owner of the keyring can identify
the copy from any one sealed message, or from the envelope (`trace_licensee`);
to everyone else the salts look random.

**Guarantees.** A salt is part of the derivation of its message's key: a message
whose mark was changed does not open. A copy bears another licensee's mark by
chance with a probability of 2^-96.

**Known breaks.** The mark is in the ciphertext, not in the weights. A licensee
who opens their copy and publishes the weights, or seals them again, leaves no
mark: mark the weights too, by `keyjax.licensee_mark` under their
`weights_secret`. Two licensees
who compare copies see that they differ, and can publish a file with parts of
each: nobody can open it, and both are identified. The owner of the keyring can
make a copy with anyone's mark: a mark is evidence, only a signature is proof.
"""

import hmac
import os
from collections.abc import Iterable

from keyjax.errors import KeyringError
from keyjax.keyring.entries import Grant
from keyjax.keyring.envelope import inspect_envelope
from keyjax.keyring.recipients import Private
from keyjax.keyring.recipients.symmetric import SymmetricKey
from keyjax.secrets import Secret

_HALF = 12


class Licensee(Private):
  """A licensee, who receives a copy of their own.

  Attributes:
    name: Name of the licensee.
    withdrawn: Whether nothing may be wrapped for them any more.
  """

  __slots__ = ("_mark", "_secret", "name", "withdrawn")

  def __init__(self, grant: Grant, licensing: Secret):
    """Make a licensee; users call `Keyring.issue` or `Keyring.licensee`."""
    self.name = grant.name
    self.withdrawn = grant.withdrawn
    self._secret = licensing.child(f"licensee/{grant.name}")
    self._mark = self._secret.derive("mark", 32)

  @property
  def id(self) -> str:
    """Id of their stanzas."""
    return SymmetricKey(self.secret).id

  @property
  def secret(self) -> Secret:
    """Key to hand to the licensee: it opens every copy made for them."""
    return self._secret.child("key")

  @property
  def weights_secret(self) -> Secret:
    """Secret of the mark in their weights; it stays with the owner.

    Example:
      >>> import jax.numpy as jnp
      >>> from keyjax import licensee_mark, trace_marks
      >>> lab, shop = (
      ...   Licensee(Grant(name, "", False), Secret.generate())
      ...   for name in ("lab", "shop"))
      >>> params, scheme = {"kernel": jnp.ones((64, 64))}, licensee_mark()
      >>> marks = {
      ...   x.name: scheme.keygen(x.weights_secret, params, None)
      ...   for x in (lab, shop)}
      >>> copy = scheme.encrypt(marks["lab"], params)  # Seal this for the lab.
      >>> found = trace_marks(marks, params, copy)
      >>> [name for name, x in found.items() if x.p_value < 1e-6]
      ['lab']
    """
    return self._secret.child("weights")

  def recipient(self) -> SymmetricKey:
    """Return their key, to wrap the data key of their copy.

    Raises:
      KeyringError: If they were withdrawn.
    """
    if self.withdrawn:
      raise KeyringError(f"licensee {self.name} was withdrawn")
    return SymmetricKey(self.secret)

  def salt(self) -> bytes:
    """Return a fresh salt of 24 bytes with their mark.

    `checkpoint.save(..., salt=licensee.salt)` marks every message of a copy.

    Example:
      >>> licensee = Licensee(Grant("lab", "", False), Secret.generate())
      >>> licensee.bears(licensee.salt()), licensee.bears(bytes(24))
      (True, False)
    """
    fresh = os.urandom(_HALF)
    return fresh + self._tag(fresh)

  def bears(self, message: bytes) -> bool:
    """Return whether a sealed message, or its salt, bears their mark."""
    fresh, tag = message[:_HALF], message[_HALF : 2 * _HALF]
    return hmac.compare_digest(self._tag(fresh), bytes(tag))

  def _tag(self, fresh: bytes) -> bytes:
    return hmac.digest(self._mark, fresh, "sha256")[:_HALF]


def trace_licensee(data: bytes, licensees: Iterable[Licensee]) -> str | None:
  """Identify the licensee of a copy, from the ciphertext alone.

  Args:
    data: Envelope, or a sealed message of a copy (its first 24 bytes suffice).
    licensees: Licensees to test, such as `Keyring.issued()`.

  Returns:
    Name of the licensee; None if it is not the copy of any of them.

  Example:
    >>> import tempfile
    >>> from keyjax.keyring import Keyring
    >>> from keyjax.seal import seal
    >>> ring = Keyring.create(
    ...   tempfile.mkdtemp() + "/ring", Secret.generate(), "team-a")
    >>> lab = ring.issue("lab")
    >>> message = seal(bytes(32), b"weights", salt=lab.salt())
    >>> trace_licensee(message, ring.issued())
    'lab'
  """
  ids = _recipient_ids(data)
  for licensee in licensees:
    if licensee.id in ids or licensee.bears(data):
      return licensee.name
  return None


def _recipient_ids(data: bytes) -> set[str]:
  try:
    return set(inspect_envelope(data)["recipients"])
  except KeyringError:
    return set()
