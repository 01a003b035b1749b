"""Models against bundles: golden ones of the tool, and ours."""

import base64
import datetime
import json
import os
import shutil
import stat
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from keyjax import signatures
from keyjax.signatures import Difference, ModelSignatureError, bundle
from keyjax.signatures import public_keys as keys
from tests.golden import archives
from tests.signatures.golden import make

pytest.importorskip(
  "model_signing.signing", reason="needs pip install 'keyjax[signing]'"
)
GOLDEN = make.HERE
COVERED = len(make.MODEL) - 1  # Without .gitattributes.
GIT = [".gitattributes"]


@pytest.fixture(scope="module")
def p256():
  return keys.read_public_key((GOLDEN / "p256.pub.pem").read_bytes())


@pytest.fixture(scope="module")
def roots():
  return keys.read_certificates((GOLDEN / "root.pem").read_bytes())


@pytest.fixture(scope="module")
def signer():
  return ec.generate_private_key(ec.SECP384R1())


def differs(model, signature, **trusted):
  """Return how a model differs, as the refusal says."""
  with pytest.raises(ModelSignatureError, match="is not what was sign") as it:
    signatures.verify(model, signature, **trusted)
  for one in it.value.differences[:5]:
    assert f"{one.where} ({one.what})" in str(it.value)
  return dict(it.value.differences)


# --------------------------------------------------------- bundles of the tool


@pytest.mark.parametrize("curve", make.CURVES)
def test_bundles_of_every_curve_verify(curve, model):
  key = keys.read_public_key((GOLDEN / f"{curve}.pub.pem").read_bytes())
  found = signatures.verify(model, GOLDEN / f"{curve}.sig", key=key)
  assert found.files == COVERED and found.uncovered == GIT
  assert found.name == "model" and found.signer.startswith("key sha256:")


@pytest.mark.parametrize("name", make.HASHES)
def test_bundles_of_every_digest_verify(name, model, p256):
  """Of these, the library alone verifies only blake3."""
  path = GOLDEN / f"{name}.sig"
  found = signatures.verify(model, path, key=p256)
  assert found.files == COVERED
  (model / "model.safetensors").write_bytes(bytes(1281))
  assert differs(model, path, key=p256) == {"model.safetensors": "changed"}


def test_a_bundle_of_one_file_verifies(model, p256):
  found = signatures.verify(
    model / "config.json", GOLDEN / "file.sig", key=p256
  )
  assert found.files == 1 and found.uncovered == []
  assert differs(model / "card.json", GOLDEN / "file.sig", key=p256) == {
    ".": "changed"
  }


@pytest.mark.parametrize("name", make.CHECKPOINTS)
def test_bundles_of_checkpoints_verify(name, tmp_path, p256):
  path = archives.unpacked("70c8ca2", tmp_path) / name
  signature = GOLDEN / f"{name}.sig"
  found = signatures.verify(path, signature, key=p256)
  here = [x for x in path.rglob("*") if x.is_file()]
  assert found.files == len(here) and found.uncovered == []
  (path / "commit_success.txt").unlink()
  wrong = {"commit_success.txt": "missing"}
  assert differs(path, signature, key=p256) == wrong


def test_a_bundle_of_a_certificate_verifies(model, roots):
  found = signatures.verify(model, GOLDEN / "chain.sig", roots=roots)
  assert found.files == COVERED
  assert found.signer.startswith("CN=Signer, certificate sha256:")


def test_expiry_is_not_looked_at(model, roots):
  """A known break of the format's certificate mode, which the docs state."""
  [leaf, _] = bundle.read(GOLDEN / "chain.sig").certificates
  assert leaf.not_valid_after_utc < datetime.datetime.now(datetime.UTC)
  signatures.verify(model, GOLDEN / "chain.sig", roots=roots)


def test_another_authority_is_refused(model, tmp_path):
  other = make.new_key("p256", tmp_path, "other")
  made = make.certificate("Root", other, "Root", other, is_authority=True)
  with pytest.raises(
    ModelSignatureError, match="signed by another .*certificate"
  ):
    signatures.verify(
      model, GOLDEN / "chain.sig", roots=x509.load_pem_x509_certificates(made)
    )


def test_a_bundle_in_the_folder_covers_all_but_itself(model, p256):
  own = model / "model.sig"
  shutil.copy(GOLDEN / "in_folder.sig", own)
  found = signatures.verify(model, own, key=p256)
  assert found.files == COVERED and found.uncovered == GIT
  # The bundle says that it ignores model.sig: it would cover nothing there.
  elsewhere = signatures.verify(model, GOLDEN / "in_folder.sig", key=p256)
  assert elsewhere.uncovered == [*GIT, "model.sig"]
  own.rename(model / "other.sig")
  found = signatures.verify(model, model / "other.sig", key=p256)
  assert found.uncovered == GIT


# ------------------------------------------------------------ what was changed


CHANGES = {
  "added": (lambda m: (m / "x").touch(), {"x": "not signed"}),
  "added_deep": (
    lambda m: ((m / "a" / "b").mkdir(parents=True), (m / "a/b/x").touch()),
    {"a/b/x": "not signed"},
  ),
  "removed": (lambda m: (m / "card.json").unlink(), {"card.json": "missing"}),
  "changed": (
    lambda m: (m / "card.json").write_bytes(b'{"card": 2}\n'),
    {"card.json": "changed"},
  ),
  "renamed": (
    lambda m: (m / "onnx/model.onnx").rename(m / "model.onnx"),
    {"onnx/model.onnx": "renamed to model.onnx"},
  ),
  "folder": (
    lambda m: ((m / "README.md").unlink(), (m / "README.md").mkdir()),
    {"README.md": "missing"},
  ),
  "hidden": (lambda m: (m / "onnx/.git").touch(), {"onnx/.git": "not signed"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_model_is_refused_by_name(name, model, p256):
  change, wrong = CHANGES[name]
  change(model)
  assert differs(model, GOLDEN / "p256.sig", key=p256) == wrong


def test_many_changes_are_counted_in_one_line(model, p256):
  for n in range(9):
    (model / f"x{n}").touch()
  with pytest.raises(ModelSignatureError, match="x4 .* and 4 more") as caught:
    signatures.verify(model, GOLDEN / "p256.sig", key=p256)
  assert len(caught.value.differences) == 9


def test_a_link_is_refused_by_name(model, p256):
  (model / "card.json").rename(model.parent / "card.json")
  (model / "card.json").symlink_to(model.parent / "card.json")
  with pytest.raises(ModelSignatureError) as caught:
    signatures.verify(model, GOLDEN / "p256.sig", key=p256)
  wrong = [Difference("card.json", "a symbolic link")]
  assert list(caught.value.differences) == wrong


def test_files_of_git_are_not_covered(model, p256):
  """As the tool has it; the paths are named."""
  (model / ".git").mkdir()
  (model / ".git" / "HEAD").write_text("ref")
  (model / ".gitattributes").write_text("changed")
  found = signatures.verify(model, GOLDEN / "p256.sig", key=p256)
  assert found.uncovered == [".git", ".gitattributes"]


def test_empty_folders_are_not_covered(model, p256):
  """A known break, which the docs state."""
  (model / "empty").mkdir()
  assert (
    signatures.verify(model, GOLDEN / "p256.sig", key=p256).files == COVERED
  )


def changed(name, tmp_path, change):
  """Return a copy of a golden bundle with one change."""
  document = json.loads((GOLDEN / f"{name}.sig").read_bytes())
  change(document)
  path = tmp_path / "changed.sig"
  path.write_text(json.dumps(document))
  return path


def test_a_changed_statement_is_refused(model, tmp_path, p256):
  """The digest of a changed file was put into the bundle."""

  def change(document):
    envelope = document["dsseEnvelope"]
    text = base64.b64decode(envelope["payload"]).replace(
      b'"config.json"', b'"konfig.json"'
    )
    envelope["payload"] = base64.b64encode(text).decode()

  path = changed("p256", tmp_path, change)
  (model / "config.json").rename(model / "konfig.json")
  with pytest.raises(ModelSignatureError, match="changed, or signed by anoth"):
    signatures.verify(model, path, key=p256)


def test_a_bundle_of_another_key_is_refused(model, tmp_path, p256, signer):
  """Also one that claims to be of the expected key, or of none."""
  theirs = tmp_path / "theirs.sig"
  signatures.sign(model, theirs, signer)
  other = json.loads(theirs.read_bytes())["dsseEnvelope"]

  def forge(document):
    document["dsseEnvelope"] = other

  def unnamed(document):
    document["dsseEnvelope"] = other
    del document["verificationMaterial"]["publicKey"]["hint"]

  for change in (forge, unnamed):
    path = changed("p256", tmp_path, change)
    with pytest.raises(ModelSignatureError, match="or signed by another"):
      signatures.verify(model, path, key=p256)


def test_an_early_bundle_does_not_name_its_key(model, tmp_path, p256, capfd):
  def change(document):
    del document["verificationMaterial"]["publicKey"]["hint"]
    del document["verificationMaterial"]["tlogEntries"]

  path = changed("p256", tmp_path, change)
  assert signatures.verify(model, path, key=p256).files == COVERED
  assert capfd.readouterr() == ("", "")  # The library would warn.


# ------------------------------------------------------------------------ ours


@pytest.mark.parametrize("name", ["model.sig", "../model.sig"])
def test_what_is_signed_verifies(name, model, signer):
  path = model / name
  signed = signatures.sign(model, path, signer)
  found = signatures.verify(model, path, key=signer.public_key())
  assert (signed.files, signed.uncovered) == (COVERED, GIT)
  assert found[1:] == signed
  mask = os.umask(0)
  os.umask(mask)
  assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
  assert [x for x in model.iterdir() if x.name.endswith(".part")] == []


def test_one_file_is_signed(model, signer, tmp_path):
  path = tmp_path / "a.sig"
  assert signatures.sign(model / "card.json", path, signer).files == 1
  key = signer.public_key()
  found = signatures.verify(model / "card.json", path, key=key)
  assert found.files == 1 and found.name == "card.json"


def test_what_is_signed_with_a_certificate_verifies(model, tmp_path):
  make.write_chain(tmp_path)
  pem = {
    name: (tmp_path / f"{name}.pem").read_bytes()
    for name in ("leaf_key", "leaf", "between", "root")
  }
  key = keys.read_signing_key(pem["leaf_key"])
  chain = keys.read_certificates(pem["leaf"] + pem["between"])
  roots = keys.read_certificates(pem["root"])
  path = tmp_path / "chain.sig"
  signed = signatures.sign(model, path, key, chain)
  found = signatures.verify(model, path, roots=roots)
  assert found[1:] == signed and "CN=Signer" in signed.signer
  # The signer's certificate alone, below the authority itself.
  alone = tmp_path / "alone.sig"
  signatures.sign(model, alone, key, chain[:1])
  between = keys.read_certificates(pem["between"])
  signatures.verify(model, alone, roots=[*roots, *between])
  with pytest.raises(ModelSignatureError, match="issuer"):
    signatures.verify(model, alone, roots=roots)


def test_whoever_the_authority_certified_is_accepted(model, tmp_path):
  """A known break, which the docs state; the signer is named."""
  root = make.new_key("p256", tmp_path, "root")
  one = make.certificate("Root", root, "Root", root, is_authority=True)
  roots = x509.load_pem_x509_certificates(one)
  for name in ("Expected", "Unexpected"):
    key = make.new_key("p256", tmp_path, name)
    made = make.certificate(name, key, "Root", root, is_authority=False)
    path = tmp_path / f"{name}.sig"
    chain = x509.load_pem_x509_certificates(made)
    signatures.sign(model, path, key, chain)
    found = signatures.verify(model, path, roots=roots)
    assert found.signer.startswith(f"CN={name},")


# The library warns that it has no extended key usage, with `Logger.warn`.
@pytest.mark.filterwarnings("ignore:The 'warn' method:DeprecationWarning")
def test_an_authority_may_not_be_used_to_sign(model, tmp_path, capfd):
  """Its certificate is for certificates."""
  root = make.new_key("p256", tmp_path, "root")
  made = make.certificate("Root", root, "Root", root, is_authority=True)
  [certificate] = x509.load_pem_x509_certificates(made)
  path = tmp_path / "root.sig"
  signatures.sign(model, path, root, [certificate])
  with pytest.raises(ModelSignatureError, match="cannot be used for signing"):
    signatures.verify(model, path, roots=[certificate])
  assert capfd.readouterr() == ("", "")


def test_the_private_key_is_in_no_file(model, signer, tmp_path, monkeypatch):
  """It goes through a pipe; nothing is left, not even a descriptor."""
  monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
  (tmp_path / "temporary").mkdir()
  before = os.listdir("/dev/fd")
  path = tmp_path / "a.sig"
  written = []
  real = type(path).write_bytes
  monkeypatch.setattr(
    type(path),
    "write_bytes",
    lambda self, data: written.append(data) or real(self, data),
  )
  signatures.sign(model, path, signer)
  assert written and not any(b"PRIVATE" in data for data in written)
  assert os.listdir(tmp_path / "temporary") == []
  assert len(os.listdir("/dev/fd")) == len(before)
  assert b"PRIVATE" not in path.read_bytes()


def test_a_name_that_is_no_text_is_refused(model, signer, tmp_path):
  try:
    (model / os.fsdecode(b"\xff")).touch()
  except OSError:
    pytest.skip("this file system accepts only text")
  with pytest.raises(ModelSignatureError, match="cannot be signed"):
    signatures.sign(model, tmp_path / "a.sig", signer)
  assert not (tmp_path / "a.sig").exists()


def test_threads_do_not_disturb_each_other(model, p256):
  found = []

  def run():
    found.append(signatures.verify(model, GOLDEN / "p256.sig", key=p256).files)

  threads = [threading.Thread(target=run) for _ in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert found == [COVERED] * 4
