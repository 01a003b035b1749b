"""A passphrase as the one recipient of an envelope.

Argon2id makes a guess expensive. Its cost stands in the stanza, where an
attacker can write what they like: it is checked before any memory is used, and
a cost below the floor is refused as one above the ceiling.

**Known breaks.** Everybody who has the file can guess for ever; only the
passphrase's own strength holds them off. At the default cost a guess took 0.12
s on two Xeon cores; six random words of a list of 7,776 hold,
one word does not.

References:
  A. Biryukov et al., RFC 9106, "Argon2", 2021, section 4.
"""

import os
import unicodedata
from typing import NamedTuple

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from keyjax.errors import KeyringError
from keyjax.keyring.encoding import encode, field
from keyjax.keyring.recipients.base import Private, Stanza, unwrap_key, wrap_key
from keyjax.keys import SECRET_BYTES, Secret

PASSPHRASE = "passphrase"
SALT = 16
_WRAPPED = SECRET_BYTES + 8


class Cost(NamedTuple):
  """What one guess costs; the default is RFC 9106's second recommendation.

  Attributes:
    memory: KiB, 19,456 (19 MiB) to 1,048,576 (1 GiB).
    passes: over that memory, 1 to 16; at most 4 GiB are passed over in all.
    lanes: 1 to 16.
  """

  memory: int = 65536
  passes: int = 3
  lanes: int = 4

  def check(self) -> "Cost":
    """Returns itself.

    Raises:
      KeyringError: it is too low to protect, or too high to compute.
    """
    low = self.memory < 19456 or self.passes < 1 or self.lanes < 1
    high = self.memory > 2**20 or self.passes > 16 or self.lanes > 16
    if low or high or self.memory * self.passes > 2**22:
      raise KeyringError(
        f"Argon2id with {self.memory} KiB, {self.passes} passes and "
        f"{self.lanes} lanes is {'too cheap' if low else 'too expensive'}: "
        "it is refused before it is computed"
      )
    return self


def stretch(passphrase: str, salt: bytes, cost: Cost) -> Secret:
  """Derives a secret from a passphrase with Argon2id.

  Args:
    passphrase: text; two spellings of one accented letter are the same.
    salt: 16 random bytes.
    cost: checked here, before any memory is used.

  Raises:
    KeyringError: the passphrase is empty, or the cost is refused.

  Example:
    >>> stretch("correct horse", bytes(16), Cost(19456, 1, 1))
    <Secret ...>
  """
  text = unicodedata.normalize("NFC", passphrase)
  if not text:
    raise KeyringError("an empty passphrase protects nothing")
  cost.check()
  return Secret(
    Argon2id(
      salt=salt,
      length=SECRET_BYTES,
      iterations=cost.passes,
      lanes=cost.lanes,
      memory_cost=cost.memory,
    ).derive(text.encode("utf-8"))
  )


class Passphrase(Private):
  """A passphrase: recipient and identity in one.

  It stands alone in an envelope: who may add stanzas beside it could lay a
  trap for people who believe that the passphrase says who wrote the file. To
  have a passphrase and other recipients, keep the private key of an HPKE
  recipient in a key file under the passphrase.

  Example:
    >>> key = Passphrase("correct horse battery", Cost(19456, 1, 1))
    >>> stanza = key.wrap(bytes(32), b"context")
    >>> key.unwrap(stanza | {"id": key.id}, b"context") == bytes(32)
    True
  """

  __slots__ = ("_passphrase", "cost")
  id = PASSPHRASE

  def __init__(self, passphrase: str, cost: Cost = Cost()):  # noqa: B008
    """Makes a recipient of a passphrase.

    Args:
      passphrase: text, not empty.
      cost: of wrapping; what is opened says its own.

    Raises:
      KeyringError: the passphrase is empty, or the cost is refused.
    """
    if not passphrase:
      raise KeyringError("an empty passphrase protects nothing")
    self._passphrase = passphrase
    self.cost = cost.check()

  def wrap(self, data_key: bytes, context: bytes) -> Stanza:
    """Wraps a data key under a fresh salt."""
    salt = os.urandom(SALT)
    secret = stretch(self._passphrase, salt, self.cost)
    wrapped = encode(wrap_key(secret, data_key, context))
    return {**self.cost._asdict(), "salt": encode(salt), "wrapped": wrapped}

  def unwrap(self, stanza: Stanza, context: bytes) -> bytes | None:
    """Returns the data key; None when the stanza is another's."""
    if stanza.get("id") != PASSPHRASE:
      return None
    cost = Cost(*(field(stanza, name, int) for name in Cost._fields))
    salt = field(stanza, "salt", bytes, SALT)
    wrapped = field(stanza, "wrapped", bytes, _WRAPPED)
    return unwrap_key(stretch(self._passphrase, salt, cost), wrapped, context)
