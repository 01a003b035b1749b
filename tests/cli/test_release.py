"""`keyjax approve`, `release-log`, and `-i release:FILE`, against a server.

`serve-keys` itself runs in tests/release/test_killed.py.
"""

import json

import pytest

from keyjax import checkpoint, keyring
from tests.cli.conftest import Answer, assert_silent, tree
from tests.release.world import World, write_settings


@pytest.fixture
def world(folder):
  """A server that wants two approvals, and the files of its caller."""
  made = World(folder)
  made.write_policy(approvals=2)
  keyring.write_key("trainer.key", made.callers["trainer"], plain=True)
  keyring.write_key("log.key", made.log_key, plain=True)
  public = keyring.format_verify_key(made.log_key.public)
  (folder / "log.key.pub").write_text(f"{public}\n")
  for name, key in made.approvers.items():
    keyring.write_key(f"{name}.key", key, plain=True)
  return made


def test_a_checkpoint_is_decrypted_after_two_approvals(world, run):
  checkpoint.save("model", tree(), world.key.public)
  decrypt = ("decrypt", "model", "opened.msgpack", "-i", "release:release.toml")
  with world.served() as url:
    write_settings(world, url)
    for name in ("alice", "carol"):
      answer = run(*decrypt)
      assert answer.code == 3 and "of 2 approvals" in answer.err, answer
      [request] = (world.folder / "requests").glob("*.json")
      shown = run("approve", request)
      assert shown.code == 0 and "checkpoint" in shown.out
      signed = run("approve", request, "--sign", f"file:{name}.key", "--json")
      assert signed.code == 0
      assert signed.json["request"]["caller"] == "trainer"
      assert_silent(signed, f"{name}.key")
    again = run("approve", request, "--sign", "file:alice.key")
    assert again.code == 4 and "exists" in again.err
    answer = run(*decrypt)
    assert answer.code == 0, answer.err
  assert run("release-log", "export", "state", "log").code == 0
  verify = ("release-log", "verify", "log", "--verify-key", "@log.key.pub")
  answer = run(*verify, "--receipts", "receipts.jsonl", "--json")
  assert answer.json == {
    "entries": 3,
    "receipts": 1,
    "releases": 1,
    "server": "keys.example/team",
  }


@pytest.fixture
def log(world, run):
  """Export the log of one release; return a function that verifies it."""
  world.write_policy()
  with world.served() as url:
    identity = world.identity(url, receipts=world.folder / "receipts.jsonl")
    keyring.open_envelope(world.envelope(), [identity])
  assert run("release-log", "export", "state", "log").code == 0
  verify = ["release-log", "verify", "log", "--verify-key", "@log.key.pub"]
  return lambda *more: run(*verify, "--receipts", "receipts.jsonl", *more)


def test_a_changed_log_is_refused(world, log, run):
  assert log().code == 0
  assert run("release-log", "export", "state", "log").code == 4
  path = world.folder / "log" / "log.jsonl"
  right = path.read_bytes()
  first, second, _ = right.split(b"\n")
  for changed in (
    right.replace(b"trainer", b"another", 1),
    first + b"\n",
    second + b"\n" + first + b"\n",
    right + second + b"\n",
    b"",
  ):
    path.write_bytes(changed)
    answer = log()
    assert answer.code == 1 and answer.err.count("\n") == 1, answer


def test_a_receipt_of_another_log_is_refused(world, log):
  path = world.folder / "receipts.jsonl"
  right = json.loads(path.read_bytes())
  for changed in (
    {"request": "0" * 32},
    {"entry": 0},
    {"entry": -1},
    {"entry": 99},
    {"note": right["note"].replace("\n2\n", "\n1\n")},
    {"note": 1},
  ):
    path.write_text(json.dumps(right | changed))
    answer = log()
    assert answer.code == 1 and answer.err.count("\n") == 1, answer
  path.write_text("[]")
  assert log().code == 1


def test_the_log_of_another_server_is_refused(world, log):
  (world.folder / "log.key.pub").write_text(
    keyring.format_verify_key(keyring.SigningKey.generate().public)
  )
  assert log() == Answer(
    1, "", "keyjax: the note is not signed with this key\n"
  )


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    ({"server": None}, "has no field 'server'"),
    ({"more": "1"}, "an unknown field 'more'"),
    ({"server": "1"}, "server is a str, not empty"),
    ({"ca": '"trainer.tls.key"'}, "holds no certificates"),
    ({"certificate": '"ca.pem"'}, "are not a certificate and its private key"),
    ({"server": "= ="}, "is not TOML"),
    ({"identity": '"file:log.key"'}, "a signing key signs"),
    ({"evidence": "[]"}, "evidence is a list, not empty"),
  ],
)
def test_wrong_settings_are_refused(world, owner, run, changed, message):
  write_settings(world, "https://127.0.0.1:9", **changed)
  answer = run("verify", owner.checkpoint, "-i", "release:release.toml")
  assert answer.code == 3 and message in answer.err, answer
  assert answer.err.count("\n") == 1


def test_settings_name_a_program_for_evidence(world, run):
  script = world.folder / "attest"
  script.write_text('#!/bin/sh\ntest "$1" && echo "token-$1"\n')
  script.chmod(0o700)
  write_settings(world, "https://127.0.0.1:9", evidence=f"['{script}']")
  identity = keyring.ReleaseIdentity.load("release.toml")
  assert identity._evidence("abc") == b"token-abc\n"
  with pytest.raises(keyring.KeyringError, match="gets evidence failed"):
    identity._evidence("")


def test_a_request_that_is_none_is_refused(run, folder):
  (folder / "request.json").write_text("{}")
  answer = run("approve", "request.json")
  assert answer.code == 1 and "missing or unknown fields" in answer.err


@pytest.mark.parametrize(
  "address", ["", "127.0.0.1", ":1", "127.0.0.1:x", "127.0.0.1:65536"]
)
def test_a_wrong_address_is_refused(run, address):
  answer = run("serve-keys", "--listen", address)
  assert answer.code == 2 and "not an address" in answer.err
