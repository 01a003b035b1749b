"""Policies that are read, and those that are refused."""

import pytest

from keyjax import keyring
from keyjax.errors import KeyringError
from keyjax.release.policy import PolicyFile


@pytest.fixture
def read(world):
  """Return a function that replaces text in the policy, and reads it."""
  text = world.policy.read_text()

  def call(*changes):
    changed = text
    for old, new in changes:
      assert old in changed, old
      changed = changed.replace(old, new, 1)
    world.policy.write_text(changed)
    return PolicyFile(world.policy).current()

  return call


def test_a_policy_is_what_the_file_says(read, world):
  policy = read(("uses = 100", "uses = 3"))
  assert policy.name == "keys.example/team" and policy.revoked == frozenset()
  caller = policy.callers[world.certificates["trainer"]]
  assert caller.recipient == world.callers["trainer"].public
  assert set(policy.approvers) == {"alice", "bob", "carol"}
  [rule] = policy.rules
  assert (rule.uses, rule.approvals, rule.evidence) == (3, 0, None)
  assert rule.expires.isoformat() == "2100-01-01T00:00:00+00:00"


def test_a_fingerprint_as_openssl_prints_it_is_read(read, world):
  digest = world.certificates["trainer"]
  pairs = [digest[i : i + 2].upper() for i in range(0, 64, 2)]
  assert digest in read((digest, ":".join(pairs))).callers


def test_the_first_rule_that_fits_counts(read, world):
  more = (
    '[rules.first]\ncheckpoints = ["a/*"]\ncallers = ["trainer"]\n'
    "expires = 2100-01-01T00:00:00Z\nuses = 1\napprovals = 0\n[rules.models]"
  )
  policy = read(("[rules.models]", more))
  trainer, other = (
    policy.callers[world.certificates[x]] for x in ("trainer", "other")
  )
  assert policy.rule(trainer, "a/1").name == "first"
  assert policy.rule(trainer, "b/1").name == "models"
  assert policy.rule(other, "a/1").name == "models"


ED25519 = keyring.format_verify_key(keyring.SigningKey.generate().public)
ML_DSA = keyring.format_verify_key(
  keyring.SigningKey.generate("ml-dsa-65").public
)


@pytest.mark.parametrize(
  ("old", "new", "message"),
  [
    ("name =", "nam =", "unknown field 'nam'"),
    ('name = "keys.example/team"', "", "no field 'name'"),
    ('name = "keys.example/team"', 'name = "a b"', "a name has 1 to 128"),
    ('name = "keys.example/team"', "name = 1", "name is a str, got a int"),
    ("name =", "= =", "is not TOML"),
    ("revoked = []", 'revoked = ["dave"]', "no caller or approver dave"),
    ("revoked = []", "revoked = [1]", "no caller or approver 1"),
    ("uses = 100", "uses = 0", "uses is 1 or more"),
    ("uses = 100", "uses = true", "uses is a int, got a bool"),
    ("approvals = 0", "approvals = -1", "approvals 0 or more"),
    ("approvals = 0", "approvals = 4", "more approvals than approvers"),
    ("'bob', 'carol'", "'alice', 'alice'", None),
    ("'bob', 'carol'", "'dave'", "no approver dave"),
    ("'trainer', 'other'", "'nobody'", "no caller nobody"),
    ("['*']", "[1]", "checkpoints are texts"),
    ("00Z", "00", "has no zone"),
    ("per_minute = 6000", "per_minute = 0", "per_minute is 1 or more"),
    ("per_minute = 6000", "", "no field 'per_minute'"),
    ("certificate = ", 'certificate = "ab" #', "not a SHA-256 fingerprint"),
    ("recipient = ", 'recipient = "ab" #', "callers.trainer: a recipient"),
    ("alice = ", 'alice = "ab" #', "approvers.alice: a verify key"),
    ("alice = ", "alice = 1 #", "approvers.alice: "),
    ("alice = ", f'alice = "{ML_DSA}" #', "not an Ed25519 key"),
    ("approvals = 0", 'approvals = 0\nevidence = "a"', "no evidence a"),
    ("[rules.models]", '[rules.models]\nuse = "x"', "unknown field 'use'"),
    ("[approvers]", "[evidence.a]\n[approvers]", "kind of evidence is unknown"),
  ],
)
def test_a_wrong_policy_is_refused(read, old, new, message):
  if message is None:
    read((old, new), ("approvals = 0", "approvals = 1"))
    old, new, message = "approvals = 0", "approvals = 2", "more approvals than"
    with pytest.raises(KeyringError, match=message):
      read(("'bob', 'carol'", "'alice', 'alice'"), (old, new))
    return
  with pytest.raises(KeyringError, match=message) as found:
    read((old, new))
  assert "\n" not in str(found.value)


def test_one_key_under_two_names_is_refused(world):
  world.approvers["bob"] = world.approvers["alice"]
  world.write_policy()
  with pytest.raises(KeyringError, match="have the same key"):
    PolicyFile(world.policy)
  world.approvers["bob"] = keyring.SigningKey.generate()
  world.certificates["other"] = world.certificates["trainer"]
  world.write_policy()
  with pytest.raises(KeyringError, match="have the same certificate"):
    PolicyFile(world.policy)
