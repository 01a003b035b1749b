"""Recipients named by an argument alone: keys of services, and trees."""

import pytest

from keyjax import Secret, keyring
from tests.cli.conftest import assert_silent

KEY = ("-i", "file:owner.key")


def test_a_key_of_a_local_service(run, owner):
  answer = run("keygen", "secret", "service/team-a.key", "--plain")
  assert answer.code == 0, answer.err
  service = "kms:service#team-a"
  answer = run("rewrap", "model", *KEY, "--keep", "--to", service)
  assert answer.code == 0, answer.err
  key = keyring.KmsKey(keyring.LocalKms("service"), "team-a")
  assert f"model opens for {key.id}" in answer.out
  assert run("verify", "model", "-i", service).code == 0
  assert run("decrypt", "model", "out.safetensors", "-i", service).code == 0
  assert_silent(answer, "owner.key", "service/team-a.key")


def test_a_key_that_the_library_made_for_a_service(run, owner):
  keyring.LocalKms("service").create("b")
  assert run("rewrap", "model", *KEY, "--to", "kms:service#b").code == 0
  assert run("verify", "model", "-i", "kms:service#b").code == 0
  assert run("verify", "model", *KEY).code == 3


@pytest.mark.parametrize(
  "name", ["kms:", "kms:service", "kms:#a", "kms:service#", "kms:service#a/b"]
)
def test_malformed_names_of_services(run, owner, name):
  for option in (["rewrap", "model", *KEY, "--to"], ["verify", "model", "-i"]):
    answer = run(*option, name)
    assert answer.code == 2 and "kms:FOLDER#KEY" in answer.err


def test_missing_keys_of_services(run, owner):
  answer = run("rewrap", "model", *KEY, "--to", "kms:service#gone")
  assert answer.code == 2 and "no key gone in this service" in answer.err
  keyring.LocalKms("service").create("a")
  run("rewrap", "model", *KEY, "--to", "kms:service#a")
  keyring.write_key("service/other.key", Secret.generate(), plain=True)
  assert run("verify", "model", "-i", "kms:service#other").code == 3


def test_the_licensees_of_a_tree(run, owner):
  run("keygen", "secret", "tree.key", "--plain")
  root = keyring.read_key("file:tree.key")
  for number in (7, 9):
    device = keyring.Broadcast(root, 8).device(number)
    keyring.write_key(f"{number}.key", device, plain=True)
  to = "broadcast:file:tree.key#8"
  assert run("rewrap", "model", *KEY, "--keep", "--to", to).code == 0
  for number in (7, 9):
    assert run("verify", "model", "-i", f"file:{number}.key").code == 0
  answer = run("rewrap", "model", *KEY, "--to", f"{to}-7-200")
  assert answer.code == 0, answer.err
  assert run("verify", "model", "-i", "file:9.key").code == 0
  answer = run("verify", "model", "-i", "file:7.key")
  assert answer.code == 3 and "licensee 7 was revoked" in answer.err
  assert_silent(answer, "tree.key", "7.key", "9.key")


@pytest.mark.parametrize(
  "rest, message",
  [
    ("file:owner.key", "broadcast:SOURCE#DEPTH"),
    ("file:owner.key#8", "another kind of key than a secret"),
    ("file:tree.key#x", "broadcast:SOURCE#DEPTH"),
    ("file:tree.key#8-", "broadcast:SOURCE#DEPTH"),
    ("file:tree.key#31", "a depth of 0 to 30, not 31"),
    ("file:tree.key#2-4", "licensee 4: there are 0 to 3"),
  ],
)
def test_malformed_names_of_trees(run, owner, rest, message):
  run("keygen", "secret", "tree.key", "--plain")
  answer = run("rewrap", "model", *KEY, "--to", f"broadcast:{rest}")
  assert answer.code == 2 and message in answer.err
  answer = run("verify", "model", "-i", f"broadcast:{rest}")
  assert answer.code == 2  # A tree wraps; a licensee's key file opens.
