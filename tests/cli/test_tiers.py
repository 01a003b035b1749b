import os
import pathlib
import shutil

import numpy as np
import pytest
from safetensors import numpy as safetensors

from keyjax import cli, keyring, tiers

NAMES = ("alice", "bob", "eve")
WEIGHTS = {
  "stem.kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
  "experts.0": np.ones(3, np.float16),
  "experts.1": np.zeros(3, np.float16),
}
EXPERTS = r"expert:experts\..*:"
KEY = {name: ("-i", f"file:{name}.key") for name in NAMES}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  """Encrypt weights once, in two tiers."""
  folder = tmp_path_factory.mktemp("tiers")
  before = os.getcwd()
  os.chdir(folder)
  try:
    safetensors.save_file(WEIGHTS, "model.safetensors")
    for name in NAMES:
      key = keyring.HpkePrivateKey.generate("x25519")
      keyring.write_key(f"{name}.key", key, plain=True)
      text = keyring.format_recipient(key.public)
      pathlib.Path(f"{name}.key.pub").write_text(f"{text}\n")
    given = ["--tier", f"{EXPERTS}@alice.key.pub,@eve.key.pub"]
    given += ["--opens", "expert:base", "--to", "@bob.key.pub", "--step", "3"]
    assert cli.main(["encrypt", "model.safetensors", "m", *given]) == 0
  finally:
    os.chdir(before)
  return folder


@pytest.fixture(autouse=True)
def _model(made, folder):
  shutil.copytree(made, folder, dirs_exist_ok=True)


def ids(name):
  return keyring.read_key(f"file:{name}.key").public.id


def test_each_key_decrypts_what_it_opens(run):
  for name, count in (("alice", 3), ("bob", 1)):
    answer = run("decrypt", "m", f"{name}.safetensors", *KEY[name])
    assert answer.code == 0, answer.err
    found = safetensors.load_file(f"{name}.safetensors")
    assert len(found) == count
    for leaf in found:
      np.testing.assert_array_equal(found[leaf], WEIGHTS[leaf])
    left_out = "tier expert is left out" in answer.out
    assert left_out == (name == "bob")
  told = run("decrypt", "m", "x", *KEY["alice"], "--tier", "base", "--json")
  assert told.json["tiers"] == {"expert": False, "base": True}
  must = run("decrypt", "m", "y", *KEY["bob"], "--tier", "expert")
  assert must.code == 3 and not os.path.exists("y")
  leaves = run("decrypt", "m", "y", *KEY["bob"], "--leaves", "stem.*")
  assert leaves.code == 2 and "is for the folder of a tier" in leaves.err


def test_inspect_shows_tiers_and_not_their_leaves(run):
  for more in ((), KEY["alice"]):
    answer = run("inspect", "m", *more)
    assert answer.code == 0
    assert "kernel" not in answer.out and "experts." not in answer.out
    assert ids("alice") in answer.out and ids("bob") in answer.out
  assert "tier        expert" in answer.out and ", opens" in answer.out
  assert ", does not open" in run("inspect", "m", *KEY["bob"]).out
  hidden = run("inspect", "m", *KEY["bob"], "--public").out
  assert "open" not in hidden.replace("keyjax", "")
  # The leaves of a tier: also for whoever opens a higher one.
  one = run("inspect", "m", "--tier", "base", *KEY["alice"])
  assert "stem.kernel  float32[2, 3]" in one.out and "step        3" in one.out
  denied = run("inspect", "m", "--tier", "expert", *KEY["bob"])
  assert (denied.code, denied.out) == (3, "")


def test_verify_says_what_was_not_checked(run):
  both = run("verify", "m", *KEY["alice"])
  assert both.code == 0 and "every chunk of expert, base opens" in both.out
  half = run("verify", "m", *KEY["bob"])
  assert half.code == 0 and "tier expert was not checked" in half.out
  assert run("verify", "m", *KEY["bob"], "--tier", "expert").code == 3
  assert run("verify", "m", *KEY["bob"], "--step", "4").code == 1
  shutil.copytree("m/tiers/base", "m/tiers/left")
  told = run("verify", "m", *KEY["bob"])
  assert told.code == 1 and "tiers/left" in told.out
  assert told.err == "keyjax: m has 1 defect\n"


def test_one_tier_is_granted(run):
  grant = ("rewrap", "m", *KEY["alice"], "--keep", "--to", "@bob.key.pub")
  one = run(*grant)
  assert one.code == 2 and "m has tiers: give one --tier of exp" in one.err
  assert run(*grant, "--tier", "expert").code == 0
  key = keyring.read_key("file:bob.key")
  assert tiers.restore("m", key).present == {"expert": True, "base": True}
  # By its path, too.
  by_path = ("rewrap", "m/tiers/base", *KEY["bob"], "--keep")
  assert run(*by_path, "--to", "@eve.key.pub").code == 0
  assert run("rewrap", *by_path[1:], "--to", "@eve.key.pub", "--tier", "x").code
  opened = tiers.with_sub_keys("m", keyring.read_key("file:alice.key"))
  assert len(opened) == 2


def test_one_tier_is_revoked(run):
  revoke = ("revoke", "m", "m", *KEY["alice"], "--recipient", "@eve.key.pub")
  expert = ("--tier", "expert:@alice.key.pub")
  lower = run(*revoke, *expert)
  assert lower.code == 2 and "expert opens base" in lower.err
  answer = run(*revoke, *expert, "--tier", "base:@bob.key.pub")
  assert answer.code == 0, answer.err
  assert "was revoked" in answer.out and "delete copies" in answer.out
  assert run("verify", "m", *KEY["eve"]).code == 3
  assert run("verify", "m", *KEY["alice"]).code == 0


@pytest.mark.parametrize(
  ("out", "given", "message"),
  [
    ("m2", "--tier expert:@alice.key.pub", "give it as OUT"),
    ("m", "--tier expert:@alice.key.pub --to @bob.key.pub", "not for tiers"),
    ("m", "--tier expert", "not of the form NAME:RECIPIENTS"),
    ("m", "--tier base:@bob.key.pub", "is no recipient of these tiers"),
    ("m", "--tier expert:@eve.key.pub", "is both revoked and in --tier"),
    ("m", "", "who keeps access? give --to RECIPIENT, or --tier"),
  ],
)
def test_a_wrong_revocation_is_refused(run, out, given, message):
  revoke = ("revoke", "m", out, *KEY["alice"], "--recipient", ids("eve"))
  failed = run(*revoke, *given.split())
  assert failed.code == 2 and message in failed.err, failed.err


def test_a_keyring_is_rotated_in_every_tier(run):
  assert run("keygen", "secret", "root.key", "--plain").code == 0
  ring = keyring.Keyring.create(
    "team.keyring", keyring.read_key("file:root.key"), "team"
  )
  more = ("--keep", "--to", "keyring:team.keyring", "--root", "file:root.key")
  for tier in ("expert", "base"):
    assert run("rewrap", "m", *KEY["alice"], "--tier", tier, *more).code == 0
  answer = run(
    "rotate", "team.keyring", "--root", "file:root.key", "--checkpoint", "m"
  )
  assert answer.code == 0 and answer.out.count(": rewrapped") == 2
  assert ring.recipient().id not in run("inspect", "m").out


@pytest.mark.parametrize(
  ("given", "code", "message"),
  [
    (("--tier", "a:b"), 2, "not of the form NAME:REGEX:RECIPIENTS"),
    (("--tier", "a:(:@bob.key.pub"), 2, "not a regular expression"),
    (("--tier", "a:x:@bob.key.pub"), 2, "tier a has no leaf: no leaf matches"),
    (("--tier", "A:x:@bob.key.pub"), 2, "a tier is named by"),
    (("--tier", f"{EXPERTS}@bob.key.pub"), 2, "stem.kernel is in no tier"),
    (("--tier", f"{EXPERTS}absent"), 2, "keyjax: "),
    (("--tier", f"{EXPERTS}@absent"), 4, "absent"),
    (("--to", "@bob.key.pub", "--opens", "a:b"), 2, "who can open it?"),
    ((), 2, "who can open it? give --to RECIPIENT, or --tier"),
    (
      ("--tier", "base:.*:@bob.key.pub", "--opens", "x:base"),
      2,
      "--opens: no tier is called x",
    ),
    (
      ("--tier", "base:.*:@bob.key.pub", "--licensee", "a#b"),
      2,
      "--licensee marks a checkpoint without tiers",
    ),
  ],
)
def test_wrong_tiers_are_refused(run, given, code, message):
  answer = run("encrypt", "model.safetensors", "new", *given)
  assert answer.code == code and message in answer.err, answer.err
  assert answer.err.count("\n") == 1 and not os.path.exists("new")


def test_a_checkpoint_without_tiers_has_none(run):
  run("encrypt", "model.safetensors", "plain", "--to", "@bob.key.pub")
  for command in ("inspect", "verify"):
    answer = run(command, "plain", *KEY["bob"], "--tier", "base")
    assert answer.code == 2 and "plain has no tiers" in answer.err
  assert run("inspect", "m", "--tier", "x").code == 2
  assert run("inspect", "absent").code == 4
