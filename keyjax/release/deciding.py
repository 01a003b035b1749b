"""Decisions about single requests, each within a transaction.

A decision releases, waits for approvals or evidence, or refuses; it is logged
in the same transaction. The key is not used here: see
`keyjax.release.releasing`.
"""

import dataclasses
import hashlib
import secrets
from typing import Any, NamedTuple

from keyjax.errors import KeyringError
from keyjax.keyring.encoding import dump
from keyjax.keyring.recipients.release import stanza_digest
from keyjax.release.approvals import Request, approver_of
from keyjax.release.asks import Answer, Ask
from keyjax.release.policy import Caller, Policy, Rule
from keyjax.release.state import Change, Known

REPEAT_SECONDS = 60.0


class RefusalError(KeyringError):
  """A request is refused; the message is for the caller and the log."""


class StaleError(RefusalError):
  """A request cannot continue under its id."""


class BusyError(Exception):
  """The key could not be used now, for a reason that may pass."""


class Granted(NamedTuple):
  """A request that is answered with a key."""

  ask: Ask
  caller: Caller
  number: int

  def answer(self, note: str) -> Answer:
    """Return the answer, with a note about a log that has the release."""
    document = {"entry": self.number, "note": note, "wrapped": self.ask.sealed}
    return Answer(200, document)


def decide(
  ask: Ask, policy: Policy, change: Change, now: float
) -> Answer | Granted:
  """Decide about one request, and log the decision."""
  caller = policy.callers.get(ask.certificate)
  if caller is None:
    return Answer(403, {"error": "this certificate is of no known caller"})
  if not change.take(caller.certificate, caller.per_minute, now):
    return Answer(429, {"error": f"more than {caller.per_minute} a minute"})
  try:
    if isinstance(ask.failure, BusyError):
      return unavailable(str(ask.failure))
    return _Decision(ask, caller, policy, change, now).take()
  except KeyringError as error:
    reason = " ".join(str(error).split())
    entry = _about(ask, caller) | {"reason": reason}
    change.append("refusal", now, entry)
    status = 409 if isinstance(error, StaleError) else 403
    return Answer(status, {"error": reason})


def _about(ask: Ask, caller: Caller) -> dict[str, Any]:
  """Return the fields that entries about a request have in common."""
  return {
    "caller": caller.name,
    "certificate": caller.certificate,
    "checkpoint": ask.checkpoint,
    "request": ask.id,
  }


def unavailable(reason: str) -> Answer:
  """Return the answer that nothing can be released now."""
  return Answer(503, {"error": reason})


@dataclasses.dataclass
class _Decision:
  """One decision about the request of a caller whom the policy knows."""

  ask: Ask
  caller: Caller
  policy: Policy
  change: Change
  now: float

  def take(self) -> Answer | Granted:
    """Grant the request, or answer what it waits for.

    Raises:
      KeyringError: If it is refused.
    """
    rule = self._rule()
    known = self.change.known(self.ask.id)
    digest = self._digest()
    if known is not None and known.digest != digest:
      raise StaleError("this id is that of another request")
    if known is not None and known.released is not None:
      return self._repeated(known)
    nonce = secrets.token_hex(32) if known is None else known.nonce
    waiting = Known(digest, nonce, None, None)
    if self.change.uses(self.ask.checkpoint) >= rule.uses:
      raise RefusalError(f"its key was released {rule.uses} times, as allowed")
    request = self._request(rule, nonce)
    approved = self._approved(rule, request)
    lacks_evidence = rule.evidence is not None and not self.ask.evidence
    if len(approved) < rule.approvals or lacks_evidence:
      if known is None:
        self.change.remember(self.ask.id, waiting)
        self.change.append("request", self.now, self._about(rule))
      return _pending(request, approved, rule)
    if rule.evidence is not None:
      self.policy.evidence[rule.evidence].verify(
        self.ask.evidence.encode(), nonce=nonce, caller=self.caller.certificate
      )
    return self._released(rule, approved, waiting)

  def _rule(self) -> Rule:
    if self.caller.name in self.policy.revoked:
      raise RefusalError("this caller was revoked")
    rule = self.policy.rule(self.caller, self.ask.checkpoint)
    if rule is None:
      raise RefusalError("no rule lets this caller open this checkpoint")
    if rule.expires.timestamp() <= self.now:
      raise RefusalError(f"rule {rule.name} expired at {rule.expires}")
    return rule

  def _digest(self) -> str:
    """Return the digest of what is asked, and of whom it is sealed to."""
    asked = {
      "certificate": self.caller.certificate,
      "checkpoint": self.ask.checkpoint,
      "recipient": self.caller.recipient.id,
      "stanza": stanza_digest(self.ask.stanza),
    }
    return hashlib.sha256(dump(asked)).hexdigest()

  def _request(self, rule: Rule, nonce: str) -> Request:
    """Return what approvers sign."""
    return {
      "caller": self.caller.name,
      "certificate": self.caller.certificate,
      "checkpoint": self.ask.checkpoint,
      "id": self.ask.id,
      "nonce": nonce,
      "recipient": self.caller.recipient.id,
      "rule": rule.name,
      "server": self.policy.name,
      "stanza": stanza_digest(self.ask.stanza),
    }

  def _approved(self, rule: Rule, request: Request) -> dict[str, str]:
    """Return the valid approvals by name of the approver.

    Others are left out, so that an approval that has expired, or whose approver
    was revoked, can be replaced by adding one.
    """
    names = set(rule.approvers) - self.policy.revoked
    approvers = {name: self.policy.approvers[name] for name in names}
    found = {}
    for token in self.ask.approvals:
      try:
        found[approver_of(token, request, approvers)] = token
      except KeyringError:
        continue
    return found

  def _about(self, rule: Rule) -> dict[str, Any]:
    return _about(self.ask, self.caller) | {"rule": rule.name}

  def _repeated(self, known: Known) -> Granted:
    """Answer a request again whose answer may have been lost."""
    assert known.number is not None and known.released is not None
    if self.now - known.released > REPEAT_SECONDS:
      raise StaleError("this request was answered before")
    self._check_opens()
    fields = _about(self.ask, self.caller) | {"entry": known.number}
    self.change.append("repeat", self.now, fields)
    return Granted(self.ask, self.caller, known.number)

  def _released(
    self, rule: Rule, approved: dict[str, str], waiting: Known
  ) -> Granted:
    """Count, log and remember a release."""
    self._check_opens()
    fields = {
      "approvals": approved,
      "evidence": self.ask.evidence if rule.evidence is not None else "",
      "recipient": self.caller.recipient.id,
      "use": self.change.count(self.ask.checkpoint),
    }
    number = self.change.append("release", self.now, self._about(rule) | fields)
    known = waiting._replace(number=number, released=self.now)
    self.change.remember(self.ask.id, known)
    return Granted(self.ask, self.caller, number)

  def _check_opens(self) -> None:
    if self.ask.failure is not None:
      raise self.ask.failure


def _pending(request: Request, approved: dict[str, str], rule: Rule) -> Answer:
  document = {
    "approvals": rule.approvals,
    "approved": sorted(approved),
    "evidence": rule.evidence or "",
    "request": request,
  }
  return Answer(202, document)
