"""What callers ask a release server, and what it answers."""

import dataclasses
from typing import Any, NamedTuple

from keyjax.errors import KeyringError
from keyjax.keyring import Stanza
from keyjax.keyring.encoding import check_name, field, parse
from keyjax.keyring.recipients import Private
from keyjax.release.approvals import is_digits

MAX_BODY = 1 << 16
_MAX_APPROVALS = 16
_FIELDS = {"approvals", "checkpoint", "evidence", "id", "stanza"}


class Answer(NamedTuple):
  """An answer: an HTTP status and a JSON object."""

  status: int
  document: dict[str, Any]


@dataclasses.dataclass(repr=False)
class Ask(Private):
  """A request, and the key once it was unwrapped and sealed to the caller.

  Attributes:
    certificate: SHA-256 of the caller's TLS certificate, in hexadecimal.
    id: Id that the caller drew for it.
    checkpoint: Id of the checkpoint.
    stanza: Wrapped data key.
    approvals: Approvals, from anyone.
    evidence: Evidence, from anyone.
    sealed: Stanza for the caller.
    failure: Why the key could not be used.
  """

  certificate: str
  id: str
  checkpoint: str
  stanza: Stanza
  approvals: tuple[str, ...] = ()
  evidence: str = ""
  sealed: Stanza | None = None
  failure: Exception | None = None


def parse_ask(body: bytes, certificate: str) -> Ask:
  """Read a request.

  Args:
    body: Untrusted bytes.
    certificate: SHA-256 of the caller's TLS certificate, in hexadecimal.

  Raises:
    KeyringError: If it is not a request.
  """
  found = parse(body, "a request", size=MAX_BODY, items=256)
  if set(found) != _FIELDS:
    raise KeyringError("a request has missing or unknown fields")
  stanza = field(found, "stanza", dict)
  if not all(type(x) in (str, int) for x in stanza.values()):
    raise KeyringError("a stanza has a field of another type")
  approvals = field(found, "approvals", list)
  if len(approvals) > _MAX_APPROVALS:
    raise KeyringError(f"a request has at most {_MAX_APPROVALS} approvals")
  if not all(isinstance(x, str) for x in approvals):
    raise KeyringError("an approval is a text")
  if not is_digits(field(found, "id", str), 32):
    raise KeyringError("the id of a request is 32 hexadecimal digits")
  return Ask(
    certificate=certificate,
    id=found["id"],
    checkpoint=check_name(field(found, "checkpoint", str), "checkpoint"),
    stanza=stanza,
    approvals=tuple(approvals),
    evidence=field(found, "evidence", str),
  )
