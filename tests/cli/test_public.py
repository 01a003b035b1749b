"""`keyjax public`: the public part of a key, and its id as in `inspect`."""

import pathlib

import pytest

from keyjax import Secret, checkpoint, keyring
from tests.cli.conftest import CHEAP, assert_silent

RECEIVE = ("x25519", "mlkem768x25519", "rsa")
SIGN = ("ed25519", "ml-dsa-65")


@pytest.mark.parametrize("kind", [*RECEIVE, *SIGN])
def test_a_key_file_shows_its_public_key_and_id(run, kind):
  made = run("keygen", kind, "a.key", "--plain", "--pub")
  answer = run("public", "a.key")
  assert answer.code == 0, answer.err
  assert answer.out == made.out == pathlib.Path("a.key.pub").read_text()
  text, comment = answer.out.splitlines()
  key = keyring.read_key("file:a.key")
  assert comment == f"# {key.id}"
  name = "verify_key" if kind in SIGN else "recipient"
  one = {"id": key.id, "kind": kind, name: text}
  assert run("public", "a.key", "--json").json == {"keys": [one]}
  assert run("public", "file:a.key", "--json").json == {"keys": [one]}
  for public in ("a.key.pub", "@a.key.pub", text):
    assert run("public", public, "--json").json == {"keys": [one]}
  assert_silent(answer, "a.key")


def test_the_id_is_the_one_that_inspect_shows(run, owner):
  shown = run("inspect", "model").out
  assert run("public", "owner.key").out.splitlines()[1][2:] in shown


def test_the_output_is_read_as_a_recipient(run, owner):
  run("keygen", "x25519", "bob.key", "--plain")
  pathlib.Path("bob.pub").write_text(run("public", "bob.key").out)
  keep = ("rewrap", "model", "-i", "file:owner.key", "--keep", "--to")
  assert run(*keep, "@bob.pub").code == 0
  bob = keyring.parse_recipient(pathlib.Path("bob.pub").read_text())
  recipients = checkpoint.inspect("model")["envelope"]["recipients"]
  assert recipients == [owner.key.id, bob.id]


def test_a_passphrase_is_asked_for(run, monkeypatch):
  monkeypatch.setenv("PASS", "six random words")
  key = keyring.HpkePrivateKey.generate("x25519")
  keyring.write_key("a.key", key, "six random words", cost=CHEAP)
  answer = run("public", "a.key", "--passphrase", "env:PASS")
  assert answer.code == 0 and key.id in answer.out
  assert keyring.format_key(key) not in answer.out + answer.err


def test_a_secret_and_a_device_have_only_an_id(run):
  secret = Secret.generate()
  keyring.write_key("root.key", secret, plain=True)
  name = keyring.SymmetricKey(secret).id
  assert run("public", "root.key").out == f"{name}\n"
  device = keyring.Broadcast(secret, 4).device(3)
  keyring.write_key("device.key", device, plain=True)
  found = run("public", "device.key", "--json").json
  assert found == {"keys": [{"id": device.id, "kind": "device"}]}


def test_files_without_a_key(run, folder):
  assert run("public", "absent.key").code == 4
  (folder / "empty.pub").write_text("# no key\n")
  assert run("public", "empty.pub").code == 2
  (folder / "other.pub").write_text("hello\n")
  answer = run("public", "other.pub")
  assert answer.code == 2 and answer.err.count("\n") == 1
  (folder / "text.key").write_text("not a key at all")
  (folder / "text.key").chmod(0o600)
  answer = run("public", "text.key")
  assert answer.code == 3 and "not a private key" in answer.err
