import json
import os
import pathlib
import shutil

import pytest

from keyjax import keyring
from tests.cli.conftest import CHEAP, assert_silent

KEY = ("-i", "file:owner.key")


def test_without_a_key_only_ids_and_sizes_are_shown(run, owner):
  answer = run("inspect", "model")
  assert answer.code == 0, answer.err
  assert owner.key.id in answer.out
  for inside in ("dense", "float32", "note", "step"):
    assert inside not in answer.out
  found = run("inspect", "model", "--json").json
  assert set(found) == {"bytes", "envelope", "format", "version"}
  assert found["envelope"]["recipients"] == [owner.key.id]


def test_a_key_shows_the_sealed_content(run, owner):
  answer = run("inspect", "model", *KEY)
  assert "step        7" in answer.out
  assert "dense/kernel  float32[64, 32]" in answer.out
  assert "dense/bias    bfloat16[32]" in answer.out
  assert "\x1b" not in answer.out
  assert_silent(answer, "owner.key")
  found = run("inspect", "model", *KEY, "--json").json
  assert found["metadata"] == {"note": "from \x1b[31mus"}
  assert [leaf["path"] for leaf in found["leaves"]] == [
    "dense/bias",
    "dense/kernel",
    "step",
  ]


def test_the_environment_names_a_default_key(run, owner, monkeypatch):
  monkeypatch.setenv("KEYJAX_IDENTITY", "file:owner.key")
  assert "dense/kernel" in run("inspect", "model").out
  assert "dense/kernel" not in run("inspect", "model", "--public").out
  assert run("verify", "model").code == 0


def test_a_key_in_place_of_a_source_is_not_repeated(run, owner, monkeypatch):
  key = pathlib.Path("owner.key").read_text().strip()
  monkeypatch.setenv("KEYJAX_IDENTITY", key)
  answer = run("verify", "model")
  assert answer.code == 2
  assert_silent(answer, "owner.key")


def test_every_source_opens(run, owner, monkeypatch):
  monkeypatch.setenv("MY_KEY", pathlib.Path("owner.key").read_text())
  assert run("verify", "model", "-i", "env:MY_KEY").code == 0
  fd = os.open("owner.key", os.O_RDONLY)
  assert run("verify", "model", "-i", f"fd:{fd}").code == 0


def test_one_of_several_keys_is_enough(run, owner):
  run("keygen", "x25519", "other.key", "--plain")
  both = ("-i", "file:other.key", *KEY)
  assert run("verify", "model", *both).code == 0


def test_verify_reports_whether_a_signature_was_checked(run, owner):
  unsigned = run("verify", "model", *KEY)
  assert unsigned.code == 0 and "no signature was checked" in unsigned.out
  signed = run("verify", "model", *KEY, "--verify-key", "@signer.key.pub")
  assert signed.code == 0 and "the signature is right" in signed.out


def test_another_signer_is_refused(run, owner):
  run("keygen", "ed25519", "b.key", "--plain", "--pub")
  answer = run("verify", "model", *KEY, "--verify-key", "@b.key.pub")
  assert (
    answer.code == 1 and "was not signed with the expected key" in answer.err
  )


def largest(folder):
  files = [p for p in pathlib.Path(folder).rglob("*") if p.is_file()]
  return max(files, key=lambda p: p.stat().st_size)


def test_verify_reports_what_is_damaged_and_where(run, owner):
  path = largest("model")
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)
  answer = run("verify", "model", *KEY)
  assert answer.code == 1
  assert answer.err.startswith("keyjax: ") and answer.err.count("\n") == 1
  assert "1 places" not in answer.err
  found = run("verify", "model", *KEY, "--json")
  assert found.code == 1
  problem = found.json.get("problems") or found.json["error"]
  assert problem
  assert_silent(answer, "owner.key")


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_a_wrong_key_gets_the_uninformative_error(run, owner, command):
  run("keygen", "x25519", "other.key", "--plain")
  answer = run(command, "model", "-i", "file:other.key")
  assert (answer.code, answer.out) == (3, "")
  flat = "cannot open: no key given opens it, or the data is damaged"
  assert answer.err == f"keyjax: {flat}\n"
  machine = run(command, "model", "-i", "file:other.key", "--json")
  assert machine.json == {"error": flat, "exit": 3}


def test_a_wrong_passphrase_of_a_key_file_is_reported(run, owner, monkeypatch):
  monkeypatch.setenv("GOOD", "six random words")
  monkeypatch.setenv("WRONG", "seven random words")
  other = keyring.HpkePrivateKey.generate("x25519")
  keyring.write_key("p.key", other, "six random words", cost=CHEAP)
  one = ("verify", "model", "-i", "file:p.key", "--passphrase")
  wrong = run(*one, "env:WRONG")
  assert (wrong.code, wrong.err) == (
    3,
    "keyjax: the passphrase of p.key is wrong, or the file is damaged\n",
  )
  another = run(*one, "env:GOOD")
  assert another.code == 3 and "no key given opens it" in another.err


def test_unusable_keys(run, owner, folder):
  assert run("verify", "model", "-i", "file:absent").code == 4
  assert run("verify", "model").code == 3
  assert run("verify", "model", "-i", "file:signer.key").code == 3
  unprefixed = run("verify", "model", "-i", "owner.key")
  assert unprefixed.code == 2
  assert "did you mean file:owner.key?" in unprefixed.err
  none = run("verify", "model", *KEY, "--verify-key", "signer.key.pub")
  assert none.code == 2 and "did you mean @signer.key.pub?" in none.err
  (folder / "text.key").write_text("not a key at all")
  os.chmod("text.key", 0o600)
  answer = run("verify", "model", "-i", "file:text.key")
  assert answer.code == 3 and "not a key at all" not in answer.err
  os.chmod("owner.key", 0o640)
  answer = run("verify", "model", *KEY)
  assert answer.code == 4 and "chmod 600" in answer.err


def test_a_damaged_header_is_refused_data(run, owner):
  header = pathlib.Path("model/header/metadata")
  found = json.loads(header.read_text())
  header.write_text(json.dumps(found | {"envelope": "{}"}))
  assert run("inspect", "model").code == 1
  assert run("verify", "model", *KEY).code == 1
  header.write_text(json.dumps(found | {"version": 99}))
  answer = run("verify", "model", *KEY)
  assert answer.code == 1 and "version 99" in answer.err


def test_folders_that_are_not_checkpoints(run, owner, folder):
  assert run("inspect", "absent").code == 4
  (folder / "empty").mkdir()
  assert run("inspect", "empty").code == 1
  shutil.rmtree("model/sealed")
  assert run("verify", "model", *KEY).code == 1


def test_a_passphrase_alone_opens(run, owner, monkeypatch):
  monkeypatch.setenv("PASS", "six random words")
  one = ("rewrap", "model", *KEY, "--to", "passphrase:env:PASS")
  assert run(*one).code == 0
  assert run("verify", "model", "-i", "passphrase:env:PASS").code == 0
  monkeypatch.setenv("PASS", "seven random words")
  assert run("verify", "model", "-i", "passphrase:env:PASS").code == 3


def test_one_descriptor_gives_the_passphrase_of_every_key(run, owner):
  read, write = os.pipe()
  os.write(write, b"six random words\n")
  os.close(write)
  for name in ("a", "b"):
    keyring.write_key(f"{name}.key", owner.key, "six random words", cost=CHEAP)
  both = ("-i", "file:a.key", "-i", "file:b.key", "--passphrase", f"fd:{read}")
  assert run("verify", "model", *both).code == 0
