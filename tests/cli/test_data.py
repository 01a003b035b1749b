import json
import pathlib

import pytest

from keyjax import Secret, keyring
from tests.cli.conftest import assert_silent
from tests.data.conftest import TRAIN, write_records

KEY = ("-i", "file:owner.key")
NAME = "a-train.array_record-00000-of-00001"


@pytest.fixture
def faces(run):
  """Write a data set `faces`, and keys."""
  folder = pathlib.Path("faces")
  folder.mkdir()
  write_records(folder / NAME, TRAIN)
  (folder / "labels.txt").write_text("cat\ndog\n")
  run("keygen", "x25519", "owner.key", "--plain", "--pub")
  run("keygen", "ed25519", "signer.key", "--plain", "--pub")
  keyring.write_key("secret.key", Secret.generate(), plain=True)
  return folder


def seal(run, *more):
  return run("data", "seal", "faces", "set", "--to", "@owner.key.pub", *more)


def test_a_set_is_sealed_inspected_verified_and_opened(run, faces):
  answer = seal(run, "--name", "faces", "--sign", "file:signer.key")
  assert answer.code == 0, answer.err
  assert "set holds 31 records, sealed" in answer.out
  assert_silent(answer, "owner.key", "signer.key")
  public = run("data", "inspect", "set")
  assert NAME not in public.out and "give -i SOURCE" in public.out
  shown = run("data", "inspect", "set", *KEY)
  assert f"{NAME}  30 records" in shown.out and "revision    1" in shown.out
  verify = ("data", "verify", "set", *KEY, "--verify-key", "@signer.key.pub")
  answer = run(*verify, "--name", "faces")
  assert answer.code == 0 and "the signature is right" in answer.out
  assert run(*verify, "--name", "others").code == 1
  assert run("data", "open", "set", "plain", *KEY).code == 0
  assert pathlib.Path("plain/labels.txt").read_text() == "cat\ndog\n"
  again = run("data", "open", "set", "plain", *KEY)
  assert again.code == 4 and "exists" in again.err


def test_damage_is_reported_by_record(run, faces):
  seal(run)
  [place] = pathlib.Path("set").glob("*.records")
  content = bytearray(place.read_bytes())
  content[66_000] ^= 1  # The files' first 64 KiB have few records.
  place.write_bytes(content[:65_600] + bytes(200) + content[65_800:])
  answer = run("data", "verify", "set", *KEY, "--json")
  assert answer.code == 1
  problems = json.loads(answer.out)["problems"]
  assert problems and all(x["where"] == NAME for x in problems)


def test_sets_grow_and_recipients_change(run, faces):
  seal(run)
  run("keygen", "x25519", "bob.key", "--plain", "--pub")
  (faces / "more.txt").write_text("more")
  assert run("data", "append", "set", "faces", *KEY).out.startswith(
    "set has 1 file more"
  )
  to = ("--to", "@bob.key.pub")
  assert run("data", "rewrap", "set", *KEY, *to).code == 0
  assert run("data", "verify", "set", *KEY).code == 3
  assert run("data", "verify", "set", "-i", "file:bob.key").code == 0
  assert seal(run).code == 4
  assert seal(run, "--replace").code == 0
  assert run("data", "verify", "set", *KEY).code == 0


def test_tags_are_made_extended_and_verified(run, faces):
  secret = ("--secret", "file:secret.key")
  tag = ("data", "tag", "faces", "faces.tags", "--name", "faces", *secret)
  answer = run(*tag, "--sign", "file:signer.key")
  assert answer.code == 0 and "31 records, 31 of them new" in answer.out
  assert_silent(answer, "secret.key", "signer.key")
  verify = ("data", "verify", "faces", "--tags", "faces.tags", *secret)
  answer = run(*verify, "--verify-key", "@signer.key.pub", "--name", "faces")
  assert answer.code == 0, answer.err
  (faces / "more.txt").write_text("more")
  answer = run(*verify)
  assert answer.code == 1 and "more.txt was not tagged" in answer.out
  answer = run(*tag)
  assert answer.code == 2 and "is signed: give --sign" in answer.err
  answer = run(*tag, "--sign", "file:signer.key")
  assert answer.out.startswith("faces.tags has tags of 32 records, 1 of")
  assert run(*verify).code == 0
  (faces / "labels.txt").write_text("dog\ncat\n")
  answer = run(*verify, "--json")
  assert [x["where"] for x in answer.json["problems"]] == ["labels.txt"]


def test_options_that_do_not_fit_are_refused(run, faces):
  seal(run)
  answer = run("data", "verify", "faces", "--tags", "a.tags")
  assert answer.code == 2 and "given together" in answer.err
  answer = run("data", "verify", "faces", *KEY)
  assert answer.code == 4 and "no sealed data set at faces" in answer.err
  secret = ("--secret", "file:owner.key")
  answer = run("data", "tag", "faces", "a.tags", "--name", "a", *secret)
  assert answer.code == 2 and "another kind of key" in answer.err
  secret = ("--secret", "file:secret.key")
  answer = run("data", "tag", "faces", "faces/a", "--name", "a", *secret)
  assert answer.code == 2 and "faces/a is inside faces" in answer.err
  answer = run("data", "seal", "none", "x", "--to", "@owner.key.pub")
  assert answer.code == 4 and "no file or folder" in answer.err
