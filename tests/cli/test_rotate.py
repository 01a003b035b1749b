import shutil

import pytest

from keyjax import checkpoint, keyring
from tests.cli.conftest import assert_silent

ROOT = ("--root", "file:root.key")


@pytest.fixture
def team(run, owner):
  """Create a keyring, two checkpoints that it opens, and one it does not."""
  run("keygen", "secret", "root.key", "--plain")
  argv = ("keygen", "keyring", "team.keyring", "--name", "team", *ROOT)
  assert run(*argv).code == 0
  for name in ("one", "two"):
    shutil.copytree("model", name)
    to = ("--keep", "--to", "keyring:team.keyring", *ROOT)
    assert run("rewrap", name, "-i", owner.source, *to).code == 0
  return load()


def ids(path):
  return set(checkpoint.inspect(path)["envelope"]["recipients"])


def load():
  root = keyring.read_key("file:root.key")
  return keyring.Keyring.load("team.keyring", root)


def test_checkpoints_are_rewrapped_for_the_new_key(run, team, owner):
  old = team.entries[0].recipient_id
  argv = (
    "rotate",
    "team.keyring",
    *ROOT,
    "--checkpoint",
    "one",
    "two",
    "model",
  )
  answer = run(*argv)
  assert answer.code == 0, answer.err
  new = load().entries[1].recipient_id
  assert ids("one") == ids("two") == {owner.key.id, new}
  assert ids("model") == {owner.key.id} and old != new
  assert "team/2 is primary" in answer.out
  assert "one was wrapped for team/1: rewrapped" in answer.out
  assert "model uses no older key" in answer.out
  assert run("verify", "one", "-i", "keyring:team.keyring", *ROOT).code == 0
  assert_silent(answer, "root.key")


def test_other_checkpoints_still_open(run, team):
  assert run("rotate", "team.keyring", *ROOT).code == 0
  verify = ("verify", "one", "-i", "keyring:team.keyring", *ROOT)
  assert run(*verify).code == 0
  ring = load()
  ring.disable("team/1")
  answer = run(*verify)
  assert answer.code == 3 and answer.err == "keyjax: key team/1 is disabled\n"


def test_failures_are_reported_and_the_rest_moves(run, team):
  run("rotate", "team.keyring", *ROOT)
  load().disable("team/1")
  argv = ("rewrap", "two", "-i", "file:owner.key", "--to")
  assert run(*argv, "keyring:team.keyring", *ROOT).code == 0
  argv = ("rotate", "team.keyring", *ROOT, "--checkpoint", "one", "two")
  answer = run(*argv, "--json")
  assert answer.code == 3 and "team/1 is disabled" in answer.err
  assert answer.json["failed"] == {"one": "key team/1 is disabled"}
  assert answer.json["rewrapped"] == {"two": ["team/2"]}
  assert answer.json["primary"] == "team/3"


def test_nothing_rotates_if_a_checkpoint_is_missing(run, team):
  argv = ("rotate", "team.keyring", *ROOT, "--checkpoint", "one", "absent")
  assert run(*argv).code == 4
  assert len(load().entries) == 1


def test_keyrings_that_do_not_open(run, team, folder):
  assert run("rotate", "team.keyring").code == 2
  assert run("rotate", "absent.keyring", *ROOT).code == 4
  assert run("rotate", "root.key", *ROOT).code == 1
  run("keygen", "secret", "other.key", "--plain")
  answer = run("rotate", "team.keyring", "--root", "file:other.key")
  assert answer.code == 3 and "cannot open" in answer.err
  (folder / "team.keyring").chmod(0o644)
  assert run("rotate", "team.keyring", *ROOT).code == 4
