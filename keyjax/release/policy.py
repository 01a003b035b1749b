"""The policy of a release server: who may open what, how often, until when.

A TOML file without secrets. The server reads it again for every batch of
requests, so a line that is changed or deleted counts for the next request.

    name = "keys.example/team-a"
    revoked = []                       # names of callers and approvers

    [approvers]
    alice = "keyjax-ed25519:..."
    bob = "keyjax-ed25519:..."

    [callers.trainer]
    certificate = "AB:CD:..."          # openssl x509 -fingerprint -sha256
    recipient = "keyjax-x25519:..."    # what is released is sealed to it
    per_minute = 60

    [rules.models]                     # the first rule that fits counts
    checkpoints = ["model-a/*"]
    callers = ["trainer"]
    expires = 2030-01-01T00:00:00Z
    uses = 100                         # releases of one checkpoint
    approvals = 2
    approvers = ["alice", "bob"]
    evidence = "pods"                  # optional: see keyjax.release.evidence

A revoked caller opens nothing, and what a revoked approver approves, or has
approved before, does not count.
"""

import dataclasses
import datetime
import fnmatch
import os
import pathlib
import re
import tomllib
from collections.abc import Container, Iterable, Mapping
from typing import Any

from keyjax.errors import KeyringError
from keyjax.keyring import PublicKey, VerifyKey, parse_recipient
from keyjax.keyring.encoding import check_name
from keyjax.keyring.signing import ED25519, parse_verify_key, signature_kind
from keyjax.release.evidence import Evidence, read_evidence

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class Caller:
  """Someone who may ask for releases.

  Attributes:
    name: Name in the policy.
    certificate: SHA-256 of the TLS certificate, in hexadecimal.
    recipient: Public key that every release to this caller is sealed to.
    per_minute: Requests a minute, on average; as many may come at once.
  """

  name: str
  certificate: str
  recipient: PublicKey
  per_minute: int


@dataclasses.dataclass(frozen=True)
class Rule:
  """What some callers may open.

  Attributes:
    name: Name in the policy.
    checkpoints: Patterns of checkpoint ids, in which `*` is any text.
    callers: Names of callers.
    expires: Time from which on nothing is released.
    uses: How often the key of one checkpoint is released, to all callers.
    approvals: How many approvers must approve each release; 0 for none.
    approvers: Names of those who can.
    evidence: Name of the evidence that is required, or None.
  """

  name: str
  checkpoints: tuple[str, ...]
  callers: tuple[str, ...]
  expires: datetime.datetime
  uses: int
  approvals: int
  approvers: tuple[str, ...]
  evidence: str | None


@dataclasses.dataclass(frozen=True)
class Policy:
  """A policy as it was read.

  Attributes:
    name: Name of the server, which its log and every approval bear.
    text: The file.
    callers: Callers by the SHA-256 of their certificates.
    approvers: Ed25519 keys by name.
    rules: Rules in the order of the file.
    evidence: Verifiers of evidence by name.
    revoked: Names of callers and approvers.
  """

  name: str
  text: str
  callers: Mapping[str, Caller]
  approvers: Mapping[str, VerifyKey]
  rules: tuple[Rule, ...]
  evidence: Mapping[str, Evidence]
  revoked: frozenset[str]

  def rule(self, caller: Caller, checkpoint: str) -> Rule | None:
    """Return the first rule for a caller and a checkpoint."""
    for rule in self.rules:
      if caller.name in rule.callers and any(
        fnmatch.fnmatchcase(checkpoint, pattern) for pattern in rule.checkpoints
      ):
        return rule
    return None


class PolicyFile:
  """A policy that is read again when its file has changed."""

  def __init__(self, path: str | os.PathLike[str]):
    """Read a policy.

    Raises:
      KeyringError: If it is not one; the message names the field.
      OSError: If it cannot be read.
    """
    self._path = pathlib.Path(path)
    self._data = b""
    self.current()

  def current(self) -> Policy:
    """Return the policy as the file is now; see `__init__`."""
    data = self._path.read_bytes()
    if data != self._data:
      self._policy = read_policy(data, self._path.parent)
      self._data = data
    return self._policy


def read_policy(data: bytes, folder: pathlib.Path) -> Policy:
  """Read the bytes of a policy.

  Args:
    data: TOML in UTF-8.
    folder: Folder that the names of files in it are relative to.

  Raises:
    KeyringError: If it is not a policy.
  """
  try:
    text = data.decode()
    document = tomllib.loads(text)
  except (ValueError, RecursionError) as error:
    raise KeyringError(f"the policy is not TOML: {error}") from None
  parts = _Table(
    document,
    "the policy",
    {"name": str, "callers": dict, "rules": dict},
    {"approvers": dict, "evidence": dict, "revoked": list},
  )
  callers = [_caller(name, x) for name, x in parts["callers"].items()]
  approvers = {k: _approver(k, v) for k, v in parts["approvers"].items()}
  evidence = {
    name: read_evidence(_table(x, f"evidence.{name}"), folder)
    for name, x in parts["evidence"].items()
  }
  _check_distinct("certificate", [x.certificate for x in callers])
  _check_distinct("key", [x.public_bytes_raw() for x in approvers.values()])
  rules = tuple(_rule(name, x) for name, x in parts["rules"].items())
  names = {x.name for x in callers}
  for rule in rules:
    _check_known(f"rules.{rule.name}", "caller", rule.callers, names)
    _check_known(f"rules.{rule.name}", "approver", rule.approvers, approvers)
    needed = [rule.evidence] if rule.evidence else []
    _check_known(f"rules.{rule.name}", "evidence", needed, evidence)
  people = {*names, *approvers}
  _check_known("revoked", "caller or approver", parts["revoked"], people)
  return Policy(
    name=check_name(parts["name"], "name of the server"),
    text=text,
    callers={x.certificate: x for x in callers},
    approvers=approvers,
    rules=rules,
    evidence=evidence,
    revoked=frozenset(parts["revoked"]),
  )


class _Table(dict[str, Any]):
  """A table of the policy whose fields were checked; absent ones are empty."""

  def __init__(
    self,
    found: Any,
    where: str,
    required: Mapping[str, type],
    optional: Mapping[str, type],
  ):
    known = {**required, **optional}
    found = _table(found, where)
    if wrong := sorted(set(found) - set(known)):
      raise KeyringError(f"{where} has an unknown field {wrong[0]!r}")
    if missing := sorted(set(required) - set(found)):
      raise KeyringError(f"{where} has no field {missing[0]!r}")
    for name, value in found.items():
      if type(value) is not known[name]:
        raise KeyringError(
          f"{where}: {name} is a {known[name].__name__}, got a "
          f"{type(value).__name__}"
        )
    super().__init__({name: kind() for name, kind in optional.items()} | found)


def _table(found: Any, where: str) -> dict[str, Any]:
  if not isinstance(found, dict):
    raise KeyringError(f"{where} is not a table")
  return found


def _caller(name: str, found: Any) -> Caller:
  where = f"callers.{name}"
  table = _Table(
    found, where, {"certificate": str, "recipient": str, "per_minute": int}, {}
  )
  certificate = table["certificate"].replace(":", "").lower()
  if not _FINGERPRINT.fullmatch(certificate):
    raise KeyringError(f"{where}: certificate is not a SHA-256 fingerprint")
  if table["per_minute"] < 1:
    raise KeyringError(f"{where}: per_minute is 1 or more")
  return Caller(
    name=check_name(name, "caller"),
    certificate=certificate,
    recipient=_key(parse_recipient, table["recipient"], where),
    per_minute=table["per_minute"],
  )


def _approver(name: str, found: Any) -> VerifyKey:
  where = f"approvers.{name}"
  key = _key(parse_verify_key, found, where)
  if signature_kind(key) != ED25519:
    raise KeyringError(f"{where} is not an Ed25519 key")
  return key


def _key(read: Any, text: Any, where: str) -> Any:
  try:
    return read(text)
  except (KeyringError, TypeError) as error:
    raise KeyringError(f"{where}: {error}") from None


def _rule(name: str, found: Any) -> Rule:
  where = f"rules.{name}"
  required = {
    "checkpoints": list,
    "callers": list,
    "expires": datetime.datetime,
    "uses": int,
    "approvals": int,
  }
  table = _Table(found, where, required, {"approvers": list, "evidence": str})
  rule = Rule(
    name=check_name(name, "rule"),
    checkpoints=tuple(table["checkpoints"]),
    callers=tuple(table["callers"]),
    expires=table["expires"],
    uses=table["uses"],
    approvals=table["approvals"],
    approvers=tuple(table["approvers"]),
    evidence=table["evidence"] or None,
  )
  if not all(isinstance(x, str) for x in rule.checkpoints):
    raise KeyringError(f"{where}: checkpoints are texts")
  if rule.expires.tzinfo is None:
    raise KeyringError(f"{where}: expires has no zone; end it with a Z")
  if rule.uses < 1 or rule.approvals < 0:
    raise KeyringError(f"{where}: uses is 1 or more, approvals 0 or more")
  if len(set(rule.approvers)) < rule.approvals:
    raise KeyringError(f"{where}: more approvals than approvers")
  return rule


def _check_known(
  where: str, what: str, used: Iterable[Any], known: Container[str]
) -> None:
  """Refuse a name that the policy does not define."""
  for name in used:
    if not isinstance(name, str) or name not in known:
      raise KeyringError(f"{where}: there is no {what} {name} in the policy")


def _check_distinct(what: str, values: list[Any]) -> None:
  """Refuse one person under two names."""
  if len(set(values)) < len(values):
    raise KeyringError(f"two names in the policy have the same {what}")
