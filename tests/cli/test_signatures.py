"""`keyjax sign` and `keyjax verify --signature`."""

import os
import pathlib
import shutil

import pytest
from cryptography.hazmat.primitives import serialization as forms

from keyjax import checkpoint, keyring
from tests.cli.conftest import process
from tests.signatures.golden import make

GOLDEN = make.HERE
PUBLIC = ("--verify-key", f"@{GOLDEN / 'p256.pub.pem'}")
SIGNATURE = ("--signature", GOLDEN / "p256.sig")
COVERED = len(make.MODEL) - 1
WORDS = b"six random words"


@pytest.fixture
def model(folder):
  """The golden model, and an EC key with and without a passphrase."""
  key = make.new_key("p256", folder, "signer")
  locked = key.private_bytes(
    forms.Encoding.PEM,
    forms.PrivateFormat.PKCS8,
    forms.BestAvailableEncryption(WORDS),
  )
  for name, data in (("locked.pem", locked), ("words", WORDS)):
    pathlib.Path(name).write_bytes(data)
    os.chmod(name, 0o600)
  make.write_model(folder)
  return "model"


def assert_no_key(answer):
  """Assert that no line of the private keys was printed."""
  for name in ("signer.pem", "locked.pem"):
    for line in pathlib.Path(name).read_text().split()[4:-4]:
      assert line not in answer.out + answer.err


# --------------------------------------------- refused before the library works


def refusals():
  """Return command lines, their exit codes and what they say."""
  key = ("sign", "model", "--key", "file:signer.pem", "--out")
  verify = ("verify", "model")
  right = (*verify, *SIGNATURE)
  pub = "signer.pub.pem"
  return {
    "none": ((*verify, "--signature", "a.sig", *PUBLIC), 4, "a.sig"),
    "no_model": (("verify", "none", *SIGNATURE, *PUBLIC), 4, "no model none"),
    "who": (right, 2, "either --verify-key @FILE or --authority"),
    "both": ((*right, *PUBLIC, "--authority", pub), 2, "either --verify-key"),
    "sealed": ((*right, *PUBLIC, "-i", "file:k"), 2, "needs no -i"),
    "step": ((*right, *PUBLIC, "--step", "0"), 2, "needs no --step"),
    "authority": ((*verify, "--authority", pub), 2, "is for --signature"),
    "line": ((*right, "--verify-key", "keyjax-ed25519:AA"), 2, "is @FILE with"),
    "private": ((*right, "--verify-key", "@signer.pem"), 2, "a private key"),
    "roots": ((*right, "--authority", pub), 2, "holds no certificate"),
    "kind": ((*right, "--verify-key", "@ours.pub"), 2, "key of KeyJAX"),
    "no_key": ((*right, "--verify-key", "@none.pem"), 4, "none.pem"),
    "other": ((*right, "--verify-key", f"@{pub}"), 1, "names another key"),
    "garbage": ((*verify, "--signature", pub, *PUBLIC), 1, "not a JSON object"),
    "exists": ((*key, "words"), 4, "words exists"),
    "nowhere": ((*key, "none/a.sig"), 4, "no folder none"),
    "source": (
      ("sign", "model", "--key", "signer.pem", "--out", "a.sig"),
      2,
      "did you mean file:signer.pem",
    ),
    "public": (
      ("sign", "model", "--key", "env:PUBLIC", "--out", "a.sig"),
      2,
      "no private key",
    ),
    "ours": (
      ("sign", "model", "--key", "file:ours.key", "--out", "a.sig"),
      2,
      "private key of KeyJAX",
    ),
    "words": (
      ("sign", "model", "--key", "file:locked.pem", "--out", "a.sig")
      + ("--passphrase", "env:WRONG"),
      3,
      "passphrase of locked.pem is wrong",
    ),
    "chain": ((*key, "a.sig", "--certificate", pub), 2, "no certificate"),
    "not_its": (
      (*key, "a.sig", "--certificate", GOLDEN / "root.pem"),
      3,
      "not that of this private key",
    ),
  }


@pytest.mark.parametrize("name", refusals())
def test_refusals(name, run, model, monkeypatch):
  monkeypatch.setenv("PUBLIC", pathlib.Path("signer.pub.pem").read_text())
  monkeypatch.setenv("WRONG", "seven random words")
  ours = keyring.SigningKey.generate()
  keyring.write_key("ours.key", ours, plain=True)
  line = keyring.format_verify_key(ours.public)
  pathlib.Path("ours.pub").write_text(f"{line}\n")
  argv, code, message = refusals()[name]
  answer = run(*argv)
  assert (answer.code, answer.out) == (code, "") and message in answer.err
  assert answer.err.count("\n") == 1
  assert_no_key(answer)
  assert not pathlib.Path("a.sig").exists()


# ----------------------------------------------------------- with the library


@pytest.fixture
def library():
  """Skip where the library is not installed."""
  reason = "needs pip install 'keyjax[signing]'"
  pytest.importorskip("model_signing.signing", reason=reason)


def test_a_bundle_of_the_tool_verifies(library, run, model):
  answer = run("verify", model, *SIGNATURE, *PUBLIC)
  assert (answer.code, answer.err) == (0, "")
  assert answer.out.startswith(
    f"model: {COVERED} files, as signed\nsigner: key"
  )
  assert "not covered: .gitattributes" in answer.out
  found = run("verify", model, *SIGNATURE, *PUBLIC, "--json").json
  assert (found["files"], found["differences"]) == (COVERED, [])
  authority = ("--authority", GOLDEN / "root.pem")
  chain = run("verify", model, "--signature", GOLDEN / "chain.sig", *authority)
  assert chain.code == 0 and "CN=Signer, certificate sha256:" in chain.out


def test_every_difference_is_a_line(library, run, model):
  pathlib.Path(model, "card.json").write_text("{}")
  pathlib.Path(model, "\x1b[2J").touch()
  answer = run("verify", model, *SIGNATURE, *PUBLIC)
  assert answer.code == 1
  assert answer.out.splitlines() == [
    "\\x1b[2J: not signed",
    "card.json: changed",
  ]
  assert answer.err == "keyjax: model is not what was signed\n"
  found = run("verify", model, *SIGNATURE, *PUBLIC, "--json").json
  assert found["differences"][1] == {"where": "card.json", "what": "changed"}


@pytest.mark.parametrize("source", ["file:locked.pem", "file:signer.pem"])
def test_a_model_is_signed(library, run, model, source, monkeypatch):
  monkeypatch.setenv("KEYJAX_IDENTITY", "file:none")  # Not needed here.
  words = ("--passphrase", "file:words")
  answer = run("sign", model, "--key", source, "--out", "model/a.sig", *words)
  assert (answer.code, answer.err) == (0, "")
  assert answer.out.startswith(f"model/a.sig signs {COVERED} files of model\n")
  assert_no_key(answer)
  key = ("--verify-key", "@signer.pub.pem")
  assert run("verify", model, "--signature", "model/a.sig", *key).code == 0
  assert run("sign", model, "--key", source, "--out", "model/a.sig").code == 4


def test_a_certificate_signs(library, run, model, folder):
  make.write_chain(folder)
  chain = [pathlib.Path(f"{name}.pem") for name in ("leaf", "between")]
  pathlib.Path("chain.pem").write_bytes(b"".join(x.read_bytes() for x in chain))
  argv = ("sign", model, "--key", "file:leaf_key.pem", "--out", "a.sig")
  assert run(*argv, "--certificate", "chain.pem").code == 0
  trusted = ("--signature", "a.sig", "--authority", "root.pem")
  answer = run("verify", model, *trusted)
  assert answer.code == 0 and "CN=Signer" in answer.out


def test_nothing_else_is_on_stderr(library, model):
  answer = process("verify", model, *map(str, SIGNATURE), *PUBLIC)
  assert (answer.code, answer.err) == (0, "")


def test_a_signature_and_a_card_in_a_sealed_checkpoint(
  library, run, owner, folder
):
  """They disturb neither restores nor a rewrap."""
  make.new_key("p256", folder, "signer")
  path = f"{owner.checkpoint}/model.sig"
  pathlib.Path(owner.checkpoint, "card.json").write_text("{}")
  argv = ("sign", owner.checkpoint, "--key", "file:signer.pem", "--out", path)
  check = ("verify", owner.checkpoint, "--signature", path)
  check += ("--verify-key", "@signer.pub.pem")
  sealed = ("verify", owner.checkpoint, "-i", owner.source)
  assert run(*argv).code == 0
  assert run(*check).code == run(*sealed).code == 0
  assert "step" in checkpoint.restore(owner.checkpoint, owner.key)
  checkpoint.rewrap(owner.checkpoint, owner.key, owner.key.public)
  assert run(*sealed).code == 0
  answer = run(*check)
  assert answer.code == 1 and "card.json" not in answer.out


def test_a_rewrap_needs_a_new_signature(library, run, owner, model):
  """The envelope changes; the tensors do not. With its card, in one folder."""
  os.mkdir("release")
  shutil.move(owner.checkpoint, "release/model")
  pathlib.Path("release/card.json").write_text("{}")
  argv = ("sign", "release", "--key", "file:signer.pem", "--out")
  verify = ("verify", "release", "--verify-key", "@signer.pub.pem")
  assert run(*argv, "1.sig").code == 0
  assert run(*verify, "--signature", "1.sig").code == 0
  other = keyring.HpkePrivateKey.generate("x25519")
  checkpoint.rewrap(
    "release/model", owner.key, [owner.key.public, other.public]
  )
  answer = run(*verify, "--signature", "1.sig")
  assert answer.code == 1
  lines = answer.out.splitlines()
  assert lines and all(x.startswith("model/header/") for x in lines)
  assert run(*argv, "2.sig").code == 0
  assert run(*verify, "--signature", "2.sig").code == 0
  # Opening the checkpoint, and checking every chunk, changes no file.
  sealed = ("verify", "release/model", "-i", owner.source)
  assert run(*sealed).code == 0
  assert run(*verify, "--signature", "2.sig").code == 0
  # A card that is replaced, or left out, is missed.
  os.remove("release/card.json")
  answer = run(*verify, "--signature", "2.sig")
  assert answer.out == "card.json: missing\n"
