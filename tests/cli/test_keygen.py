import os
import pathlib
import stat

import pytest

from keyjax import keyring
from tests.cli.conftest import assert_silent, secrets_of, write_private_file

RECEIVE = ("x25519", "mlkem768x25519", "rsa")
SIGN = ("ed25519", "ml-dsa-65")


def mode(path):
  return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.parametrize("kind", RECEIVE)
def test_the_key_opens_for_its_recipient(run, kind):
  answer = run("keygen", kind, "a.key", "--plain", "--pub")
  assert answer.code == 0, answer.err
  public = keyring.parse_recipient(answer.out)
  key = keyring.read_key("file:a.key")
  envelope = keyring.seal_envelope(bytes(32), [public], checkpoint="m")
  assert keyring.open_envelope(envelope, [key]).data_key == bytes(32)
  assert pathlib.Path("a.key.pub").read_text() == answer.out
  assert mode("a.key") == 0o600
  assert_silent(answer, "a.key")


def test_the_hybrid_has_a_second_spelling(run):
  made = run("keygen", "mlkem768-x25519", "a.key", "--plain", "--json").json
  assert made["kind"] == "mlkem768x25519"
  assert made["recipient"].startswith("keyjax-mlkem768x25519:")
  assert "mlkem768-x25519" not in run("keygen", "dsa", "b.key").err


@pytest.mark.parametrize("kind", SIGN)
def test_a_verify_key_is_that_of_the_signing_key(run, kind):
  answer = run("keygen", kind, "s.key", "--plain", "--json")
  key = keyring.read_key("file:s.key")
  public = keyring.parse_verify_key(answer.json["verify_key"])
  public.verify(key.private.sign(b"model"), b"model")
  assert answer.json["kind"] == kind
  assert_silent(answer, "s.key")


def test_a_secret_shows_only_its_id(run):
  answer = run("keygen", "secret", "root.key", "--plain")
  secret = keyring.read_key("file:root.key")
  assert answer.out.strip() == keyring.SymmetricKey(secret).id
  assert_silent(answer, "root.key")


def test_a_passphrase_protects_by_default(run, monkeypatch):
  monkeypatch.setenv("PASS", "six random words")
  made = run("keygen", "x25519", "a.key", "--passphrase", "env:PASS")
  assert made.code == 0
  assert "KEYJAX-SECRET" not in pathlib.Path("a.key").read_text()
  key = keyring.read_key("file:a.key", "six random words")
  assert keyring.format_recipient(key.public) == made.out.split()[0]


def test_a_keyring_opens_with_its_root(run):
  run("keygen", "secret", "root.key", "--plain")
  answer = run(
    "keygen",
    "keyring",
    "t.keyring",
    "--name",
    "team",
    "--root",
    "file:root.key",
  )
  assert answer.code == 0, answer.err
  root = keyring.read_key("file:root.key")
  ring = keyring.Keyring.load("t.keyring", root)
  assert answer.out.split() == ["team/1", ring.entries[0].recipient_id]
  assert mode("t.keyring") == 0o600
  assert_silent(answer, "root.key")


def test_no_key_is_overwritten(run):
  run("keygen", "secret", "root.key", "--plain")
  before = secrets_of("root.key")
  again = run("keygen", "secret", "root.key", "--plain")
  assert (again.code, again.out) == (4, "")
  assert again.err == "keyjax: root.key exists; a key is never overwritten\n"
  assert secrets_of("root.key") == before


def test_a_public_file_is_not_written_through_a_link(run, folder):
  (folder / "a.key.pub").symlink_to(folder / "elsewhere")
  assert run("keygen", "x25519", "a.key", "--plain", "--pub").code == 4
  assert [p.name for p in folder.iterdir()] == ["a.key.pub"]


def test_an_existing_public_file_prevents_the_key(run, folder):
  (folder / "a.key.pub").write_text("another's")
  answer = run("keygen", "x25519", "a.key", "--plain", "--pub")
  assert answer.code == 4
  assert not (folder / "a.key").exists()


def test_keys_are_not_written_into_checkpoints(run, owner):
  answer = run("keygen", "x25519", "model/a.key", "--plain")
  assert answer.code == 2
  assert "store keys elsewhere" in answer.err


@pytest.mark.parametrize(
  "argv, sentence",
  [
    (["x25519", "a.key", "--plain", "--name", "t"], "belong to a keyring"),
    (["keyring", "t", "--name", "team"], "belong to a keyring"),
    (["secret", "a.key", "--plain", "--pub"], "has no public key"),
    (["x25519", "a", "--plain", "--passphrase", "env:P"], "exclude each other"),
    (["x25519", "a.key", "--passphrase", "env:EMPTY"], "is empty"),
    (["x25519", "a.key", "--passphrase", "hunter2"], "comes from file:PATH"),
    (["x25519", "a.key", "--passphrase", "env:UNSET"], "of the passphrase is"),
    (["dsa", "a.key"], "invalid choice"),
    (["x25519"], "required: FILE"),
  ],
)
def test_usage_errors_are_one_line(run, monkeypatch, argv, sentence):
  monkeypatch.setenv("EMPTY", "\n")
  answer = run("keygen", *argv)
  assert answer.code == 2 and sentence in answer.err
  assert answer.err.startswith("keyjax: ") and answer.err.count("\n") == 1
  assert "hunter2" not in answer.err
  assert not pathlib.Path("a.key").exists()


def test_a_keyring_is_not_plain(run):
  run("keygen", "secret", "root.key", "--plain")
  ring = ("keygen", "keyring", "t", "--name", "t", "--root", "file:root.key")
  assert run(*ring, "--plain").code == 2


def test_a_root_is_a_secret(run):
  run("keygen", "x25519", "a.key", "--plain")
  answer = run(
    "keygen", "keyring", "t", "--name", "team", "--root", "file:a.key"
  )
  assert answer.code == 2 and "another kind of key" in answer.err


def test_a_missing_passphrase_file(run):
  for plain in ("file:nope", "file:~/nope-either"):
    answer = run("keygen", "x25519", "a.key", "--passphrase", plain)
    assert answer.code == 4
    path = plain.removeprefix("file:")
    assert answer.err == f"keyjax: the passphrase file {path} does not exist\n"
  assert not pathlib.Path("a.key").exists()


def test_a_passphrase_file_is_private(run, folder):
  (folder / "open.pass").write_text("six random words")
  os.chmod("open.pass", 0o644)
  answer = run("keygen", "x25519", "a.key", "--passphrase", "file:open.pass")
  assert answer.code == 4 and "chmod 600" in answer.err
  write_private_file("my.pass", "six random words\n")
  assert not run(
    "keygen", "x25519", "a.key", "--passphrase", "file:my.pass"
  ).code
