"""A passphrase as the only recipient of an envelope.

Argon2id makes each guess expensive. Its cost is stored in the stanza, where an
attacker can write any value: it is checked before memory is allocated. A cost
below the minimum is refused, and so is one above what the caller accepts, by
default 256 MiB and four times the work of the default cost (`MAX_COST`).

**Known breaks.** Anyone who has the file can guess for as long as they like;
only the strength of the passphrase stops them. At the default cost a guess took
0.12 s on two Xeon cores; six random words of a list of 7,776 are enough, one
word is not.

References:
  A. Biryukov et al., RFC 9106, "Argon2", 2021, section 4.
"""

import os
import unicodedata
from typing import NamedTuple

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from keyjax.arguments import describe, show
from keyjax.errors import KeyringError
from keyjax.keyring.encoding import encode, encode_secret, field
from keyjax.keyring.recipients import (
  Argument,
  Kind,
  Private,
  Stanza,
  register,
)
from keyjax.keyring.recipients.symmetric import (
  WRAPPED_BYTES,
  unwrap_key,
  wrap_key,
)
from keyjax.secrets import SECRET_BYTES, Secret

_NAME = "passphrase"
SALT_BYTES = 16


class Cost(NamedTuple):
  """Cost of one guess; the default is RFC 9106's second recommendation.

  Attributes:
    memory: KiB, 19,456 (19 MiB) to 1,048,576 (1 GiB).
    passes: Passes over that memory, 1 to 16, and at most 4 GiB in total.
    lanes: Degree of parallelism, 1 to 16.
  """

  memory: int = 65536
  passes: int = 3
  lanes: int = 4

  def check(self) -> "Cost":
    """Return the cost itself.

    Raises:
      KeyringError: If it is too low to protect, or too high to compute.
    """
    low = self.memory < 19456 or self.passes < 1 or self.lanes < 1
    high = self.memory > 2**20 or self.passes > 16 or self.lanes > 16
    if low or high or self.memory * self.passes > 2**22:
      memory, passes, lanes = map(show, self)
      raise KeyringError(
        f"Argon2id with {memory} KiB, {passes} passes and {lanes} lanes is "
        f"{'too cheap' if low else 'too expensive'}: it is refused before it "
        "is computed"
      )
    return self

  def check_accepted(self, most: "Cost") -> "Cost":
    """Return the cost itself, which someone else may have chosen.

    Args:
      most: Largest memory, and memory times passes, to spend.

    Raises:
      KeyringError: If it is refused by `check`, or larger.
    """
    self.check()
    work = self.memory * self.passes
    if self.memory > most.memory or work > most.memory * most.passes:
      raise KeyringError(
        f"Argon2id with {self.memory} KiB and {self.passes} passes is too "
        f"expensive: at most {most.memory} KiB, and {most.passes} passes over "
        "them, are accepted; raise max_cost if you trust who wrote it"
      )
    return self


MAX_COST = Cost(2**18, 3, 16)


def check_iterations(iterations: int, most: Cost) -> None:
  """Raise a KeyringError if PBKDF2 has more iterations than `most` allows.

  One iteration counts as one KiB and pass of Argon2id.

  Example:
    >>> check_iterations(600_000, MAX_COST)
  """
  accepted = most.memory * most.passes
  if iterations > accepted:
    raise KeyringError(
      f"PBKDF2 with {show(iterations)} iterations is too expensive: at most "
      f"{accepted} are accepted; raise max_cost if you trust who wrote it"
    )


def check_scrypt(n: int, r: int, p: int, most: Cost) -> None:
  """Raise a KeyringError if scrypt costs more than `most` allows.

  Example:
    >>> check_scrypt(2**14, 8, 1, MAX_COST)
  """
  memory = n * r // 8  # KiB
  if memory > most.memory or memory * p > most.memory * most.passes:
    raise KeyringError(
      f"scrypt with N={show(n)}, r={show(r)} and p={show(p)} is too expensive: "
      f"at most {most.memory} KiB, and {most.passes} passes over them, are "
      "accepted; raise max_cost if you trust who wrote it"
    )


def normalized(passphrase: str) -> str:
  r"""Return a passphrase in NFC: composed and decomposed accents are the same.

  Example:
    >>> normalized("cafe\u0301") == "caf\u00e9"
    True
  """
  return unicodedata.normalize("NFC", passphrase)


def stretch(passphrase: str, salt: bytes, cost: Cost) -> Secret:
  """Derive a secret from a passphrase with Argon2id.

  Args:
    passphrase: Text, which is `normalized`.
    salt: 16 random bytes.
    cost: Cost of one guess, checked here before memory is allocated.

  Raises:
    KeyringError: If the passphrase is empty or no text, or the cost is refused.

  Example:
    >>> stretch("correct horse", bytes(16), Cost(19456, 1, 1))
    <Secret ...>
  """
  data = encode_secret(normalized(passphrase), "passphrase")
  if not data:
    raise KeyringError("an empty passphrase protects nothing")
  cost.check()
  return Secret(
    Argon2id(
      salt=salt,
      length=SECRET_BYTES,
      iterations=cost.passes,
      lanes=cost.lanes,
      memory_cost=cost.memory,
    ).derive(data)
  )


class Passphrase(Private):
  """A passphrase: recipient and identity in one.

  It is the only recipient of its envelope. Users assume that a file which
  their passphrase opens was written by someone who knows it; another recipient
  could write such a file too. To have a passphrase and other recipients, store
  the private key of an HPKE recipient in a key file under the passphrase.

  Example:
    >>> key = Passphrase("correct horse battery", Cost(19456, 1, 1))
    >>> stanza = key.wrap(bytes(32), b"context")
    >>> key.unwrap(stanza | {"id": key.id}, b"context") == bytes(32)
    True
  """

  __slots__ = ("_max_cost", "_passphrase", "cost")
  id = _NAME

  def __init__(
    self,
    passphrase: str,
    cost: Cost = Cost(),  # noqa: B008
    max_cost: Cost = MAX_COST,
  ):
    """Make a recipient of a passphrase.

    Args:
      passphrase: Text, not empty.
      cost: Cost of wrapping; a stanza to unwrap contains its own.
      max_cost: Largest cost to unwrap, which anyone may have written; `cost`
        is accepted too.

    Raises:
      KeyringError: If the passphrase is empty, or the cost is refused.
    """
    if not isinstance(passphrase, str):
      raise TypeError(f"a passphrase is text, got {describe(passphrase)}")
    if not passphrase:
      raise KeyringError("an empty passphrase protects nothing")
    self._passphrase = passphrase
    self.cost = cost.check()
    self._max_cost = max_cost

  def wrap(self, data_key: bytes, context: bytes) -> Stanza:
    """Wrap a data key under a fresh salt."""
    salt = os.urandom(SALT_BYTES)
    secret = stretch(self._passphrase, salt, self.cost)
    wrapped = encode(wrap_key(secret, data_key, context))
    return {**self.cost._asdict(), "salt": encode(salt), "wrapped": wrapped}

  def unwrap(self, stanza: Stanza, context: bytes) -> bytes | None:
    """Return the data key, or None if the stanza is for another identity."""
    if stanza.get("id") != _NAME:
      return None
    cost = Cost(*(field(stanza, name, int) for name in Cost._fields))
    if cost != self.cost:
      cost.check_accepted(self._max_cost)
    salt = field(stanza, "salt", bytes, SALT_BYTES)
    wrapped = field(stanza, "wrapped", bytes, WRAPPED_BYTES)
    return unwrap_key(stretch(self._passphrase, salt, cost), wrapped, context)


register(
  Kind(
    name=_NAME,
    argument=Argument(
      form="passphrase[:SOURCE]",
      help="a passphrase, asked for or read from a SOURCE",
      recipient=lambda source, reader: Passphrase(
        reader.new_passphrase(source)
      ),
      identity=lambda source, reader: Passphrase(
        reader.passphrase(source), max_cost=reader.max_cost
      ),
    ),
  )
)
