import pathlib
import re
import shutil

import numpy as np
import pytest

from keyjax import checkpoint, keyring
from tests.cli.conftest import CHEAP, assert_silent, process, tree

KEY = ("-i", "file:owner.key")


@pytest.fixture
def people(run, owner):
  """Create keys for Bob and Carol."""
  for name in ("bob", "carol"):
    run("keygen", "x25519", f"{name}.key", "--plain", "--pub")
  key = owner.key.public
  pathlib.Path("owner.key.pub").write_text(keyring.format_recipient(key))
  return owner


def opens(run, path, key):
  return run("verify", path, "-i", f"file:{key}.key").code


def files(path):
  """Return the bytes of all files that contain tensors."""
  sealed = pathlib.Path(path) / "sealed"
  return {p: p.read_bytes() for p in sealed.rglob("*") if p.is_file()}


def test_keep_adds_a_recipient(run, people):
  before = files("model")
  answer = run("rewrap", "model", *KEY, "--keep", "--to", "@bob.key.pub")
  assert answer.code == 0, answer.err
  assert [opens(run, "model", k) for k in ("owner", "bob", "carol")] == [
    0,
    0,
    3,
  ]
  assert files("model") == before
  assert_silent(answer, "owner.key", "bob.key")


def test_without_keep_other_recipients_are_removed_and_listed(run, people):
  answer = run("rewrap", "model", *KEY, "--to", "@bob.key.pub", "--json")
  assert answer.json["removed"] == [people.key.id]
  assert [opens(run, "model", k) for k in ("owner", "bob")] == [3, 0]
  back = ("rewrap", "model", "-i", "file:bob.key", "--to", "@owner.key.pub")
  assert "whoever kept the data key" in run(*back).out


def test_an_expiry_stays_when_others_are_added(run, people):
  key = keyring.read_key("file:carol.key")
  short = keyring.Expiring(key.public, "2020-01-01T00:00:00Z")
  checkpoint.rewrap("model", people.key, [people.key.public, short])
  run("rewrap", "model", *KEY, "--keep", "--to", "@bob.key.pub")
  answer = run("verify", "model", "-i", "file:carol.key")
  assert answer.code == 3 and "expired at 2020" in answer.err


def test_rewrap_needs_a_key_that_opens(run, people):
  argv = ("rewrap", "model", "-i", "file:bob.key", "--to", "@bob.key.pub")
  assert run(*argv).code == 3
  assert opens(run, "model", "owner") == 0


@pytest.mark.parametrize(
  "recipient, code, sentence",
  [
    ("keyjax-x25519:AAAA", 2, "cut or misread"),
    ("bob", 2, "looks like keyjax-x25519"),
    ("@absent.pub", 4, "no such file"),
    ("@", 4, ": no such file"),
    ("@empty.pub", 2, "holds no public key"),
    ("bob.key.pub", 2, "did you mean @bob.key.pub?"),
    ("bob.key", 2, "did you mean @bob.key.pub?"),
    ("@bob.key", 2, "bob.key looks like a private key"),
    ("@locked.key", 2, "locked.key looks like a private key"),
    ("file:signer.key", 2, "not one that signs"),
    ("keyring:team.keyring", 2, "needs --root"),
    ("env:UNSET", 3, "is not set"),
  ],
)
def test_malformed_recipients(run, people, recipient, code, sentence):
  pathlib.Path("empty.pub").write_text(f"# no key, {'0f' * 32}\n")
  key = keyring.protect_key(people.key, "six random words", CHEAP)
  pathlib.Path("locked.key").write_text(key)
  answer = run("rewrap", "model", *KEY, "--to", recipient)
  assert (answer.code, answer.out) == (code, "")
  assert sentence in answer.err and answer.err.count("\n") == 1
  assert opens(run, "model", "owner") == 0


def test_a_recipient_given_twice_is_a_usage_error(run, people):
  twice = ("--to", "@bob.key.pub", "--to", "@bob.key.pub")
  assert run("rewrap", "model", *KEY, *twice).code == 2


def revoke(run, *more):
  both = ("--to", "@owner.key.pub", "--to", "@carol.key.pub")
  return run(
    "revoke", "model", "new", *KEY, "--recipient", *more[:1], *both, *more[1:]
  )


def test_the_revoked_open_only_the_old_checkpoint(run, people):
  run("rewrap", "model", *KEY, "--keep", "--to", "@bob.key.pub")
  answer = revoke(run, "@bob.key.pub", "--sign", "file:signer.key")
  assert answer.code == 0, answer.err
  assert [opens(run, "new", k) for k in ("owner", "carol")] == [0, 0]
  refused = run("verify", "new", "-i", "file:bob.key")
  assert refused.code == 3 and "was revoked" in refused.err
  assert opens(run, "model", "bob") == 0  # As the output warns:
  assert "delete model" in answer.out
  signed = ("verify", "new", *KEY, "--verify-key", "@signer.key.pub")
  assert run(*signed).code == 0
  restored = checkpoint.restore("new", people.key)
  np.testing.assert_array_equal(
    restored["dense"]["kernel"], tree()["dense"]["kernel"]
  )
  assert_silent(answer, "owner.key", "bob.key", "signer.key")


def test_only_reinstate_readmits_the_revoked(run, people):
  run("rewrap", "model", *KEY, "--keep", "--to", "@bob.key.pub")
  revoke(run, "@bob.key.pub")
  bob = keyring.read_key("file:bob.key").id
  for again in (
    ("rewrap", "new", *KEY, "--keep", "--to", "@bob.key.pub"),
    ("rewrap", "new", *KEY, "--to", "@bob.key.pub"),
    ("revoke", "new", "newer", *KEY, "--recipient", people.key.id, "--to")
    + ("@bob.key.pub",),
  ):
    answer = run(*again)
    assert answer.code == 2 and f"{bob} was revoked; only" in answer.err
    assert opens(run, "new", "bob") == 3
    assert not pathlib.Path("newer").exists()
  keep = ("rewrap", "new", *KEY, "--keep", "--to", "@bob.key.pub")
  answer = run(*keep, "--reinstate")
  assert (
    answer.code == 0 and f"{bob} was revoked and is reinstated" in answer.out
  )
  assert opens(run, "new", "bob") == 0


def test_every_later_checkpoint_names_the_revoked(run, people):
  keep = ("rewrap", "model", *KEY, "--keep", "--to", "@bob.key.pub")
  run(*keep, "--to", "@carol.key.pub")
  revoke(run, "@bob.key.pub")
  carol = keyring.read_key("file:carol.key").id
  only = ("--recipient", carol, "--to", "@owner.key.pub")
  assert run("revoke", "new", "newer", *KEY, *only).code == 0
  for name in ("bob", "carol"):
    answer = run("verify", "newer", "-i", f"file:{name}.key")
    assert answer.code == 3 and "was revoked" in answer.err
  both = (*only, "--to", "@bob.key.pub", "--reinstate")
  assert run("revoke", "new", "other", *KEY, *both).code == 0
  assert opens(run, "other", "bob") == 0
  assert checkpoint.inspect("other")["envelope"]["revoked"] == [carol]


def test_revoke_takes_an_id_and_lists_dropped_recipients(run, people):
  keep = ("rewrap", "model", *KEY, "--keep", "--to", "@bob.key.pub")
  run(*keep, "--to", "@carol.key.pub")
  bob = keyring.read_key("file:bob.key").id
  carol = keyring.read_key("file:carol.key").id
  only = ("--recipient", bob, "--to", "@owner.key.pub", "--json")
  answer = run("revoke", "model", "new", *KEY, *only)
  assert answer.json["revoked"] == [bob]
  assert answer.json["dropped"] == [carol]


def test_contradictory_revocations(run, people):
  stranger = revoke(run, "@bob.key.pub")
  assert stranger.code == 2 and "is no recipient of model" in stranger.err
  assert "did you mean @bob.key.pub?" in revoke(run, "bob.key.pub").err
  both = revoke(run, "@owner.key.pub")
  assert both.code == 2 and "both revoked and in --to" in both.err
  shutil.copytree("model", "new")
  owner = ("--recipient", people.key.id, "--to", "@bob.key.pub")
  assert run("revoke", "model", "new", *KEY, *owner).code == 4
  wrong = ("revoke", "model", "newer", "-i", "file:bob.key")
  assert run(*wrong, *owner).code == 3
  assert run("revoke", "model", "signer.key/x", *KEY, *owner).code == 4


def test_a_damaged_checkpoint_is_not_encrypted_again(run, people):
  sealed = pathlib.Path("model/sealed")
  path = max(sealed.rglob("*"), key=lambda p: p.is_file() and p.stat().st_size)
  data = bytearray(path.read_bytes())
  for i in range(len(data) // 4, len(data) * 3 // 4, 64):
    data[i] ^= 1
  path.write_bytes(data)
  owner = ("--recipient", people.key.id, "--to", "@bob.key.pub")
  # In a process: other writes of Orbax may finish after this one has failed.
  answer = process("revoke", "model", "new", *KEY, *owner)
  # Orbax chooses where parts are stored in the file, and it varies.
  assert answer.code == 1
  assert re.search("dense/(kernel|bias) does not open|the manifest", answer.err)
  assert answer.err.startswith("keyjax: ") and answer.err.count("\n") == 1
  assert not pathlib.Path("new").exists()
