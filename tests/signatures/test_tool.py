"""The command `model_signing`, which has an environment of its own."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.serialization import (
  BestAvailableEncryption,
  Encoding,
  PrivateFormat,
)

from experiments.benchmarks.peers import environment
from keyjax import signatures
from keyjax.signatures import ModelSignatureError
from keyjax.signatures import public_keys as keys
from tests.conftest import ROOT
from tests.golden import archives
from tests.signatures.golden import make

PACKAGES = ("model-signing==1.1.1", "pyopenssl==26.4.0", "cryptography==50.0.2")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tool():
  """Return a function that runs the tool: its exit code and output."""
  reason = "needs pip install 'keyjax[signing]'"
  pytest.importorskip("model_signing.signing", reason=reason)
  try:
    python = environment.python("model-signing", PACKAGES)
  except SystemExit as error:
    pytest.skip(str(error))

  def call(*argv):
    command = [python, "-m", "model_signing", *map(str, argv)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr

  return call


@pytest.fixture(params=["hugging_face", *make.CHECKPOINTS])
def model(request, tmp_path):
  """A folder from Hugging Face, a plain checkpoint, and a sealed one."""
  if request.param == "hugging_face":
    return make.write_model(tmp_path)
  return archives.unpacked("70c8ca2", tmp_path) / request.param


def test_the_blocks_of_the_docs_run_from_top_to_bottom(tool, tmp_path):
  """The second one with a chain of certificates for another key."""
  text = (ROOT / "docs/signatures.md").read_text()
  first, second = re.findall(r"^```\n(.*?)^```", text, re.M | re.S)
  bins = tmp_path / "bin"
  bins.mkdir()
  for name, program in (
    ("keyjax", f"{sys.executable} -m keyjax.cli"),
    ("model_signing", f"{environment.folder('model-signing')}/bin/python -m"),
  ):
    more = " model_signing" if name == "model_signing" else ""
    (bins / name).write_text(f'#!/bin/sh\nexec {program}{more} "$@"\n')
    (bins / name).chmod(0o755)
  shutil.copytree(make.write_model(tmp_path), tmp_path / "model-1")
  (tmp_path / "card.json").write_text("{}")
  paths = {
    "PATH": f"{bins}:{os.environ['PATH']}",
    "PYTHONPATH": str(ROOT),
  }

  def shell(block):
    subprocess.run(
      ["bash", "-e", "-c", block],
      cwd=tmp_path,
      env=os.environ | paths,
      check=True,
    )

  shell(first)
  make.write_chain(tmp_path)
  chain = [tmp_path / f"{name}.pem" for name in ("leaf", "between")]
  data = b"".join(path.read_bytes() for path in chain)
  (tmp_path / "chain.pem").write_bytes(data)
  (tmp_path / "leaf_key.pem").replace(tmp_path / "signer.pem")
  (tmp_path / "release.sig").unlink()
  shell(second)


@pytest.mark.parametrize("name", make.HASHES)
def test_the_tool_does_not_verify_digests_of_its_library(tool, name, tmp_path):
  """As the docs say; here they verify."""
  model, path = make.write_model(tmp_path), make.HERE / f"{name}.sig"
  public = make.HERE / "p256.pub.pem"
  check = ("verify", "key", model, "--signature", path, "--public_key", public)
  code, said = tool(*check)
  assert code == 1 and "Signature mismatch" in said


def test_the_tool_does_not_open_keys_with_a_passphrase(tool, tmp_path):
  """As the docs say."""
  key = make.new_key("p256", tmp_path, "signer")
  data = key.private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"six words")
  )
  (tmp_path / "locked.pem").write_bytes(data)
  private = ("--private_key", tmp_path / "locked.pem")
  argv = ("sign", "key", make.write_model(tmp_path), *private)
  argv += ("--password", "six words", "--signature", tmp_path / "a.sig")
  assert tool(*argv)[0] == 1 and not (tmp_path / "a.sig").exists()


class Pair:
  """A signer, for both sides.

  Attributes:
    ours: Arguments of `keyjax.signatures.sign` after the key's.
    trusted: Those of `verify`.
    sign: Arguments of the tool.
    verify: Arguments of the tool.
  """

  def __init__(self, mode: str, folder: pathlib.Path):
    if mode == "certificate":
      make.write_chain(folder)
      leaf, between, root = (
        folder / f"{name}.pem" for name in ("leaf", "between", "root")
      )
      name = "leaf_key"
      chain = leaf.read_bytes() + between.read_bytes()
      self.ours = [keys.read_certificates(chain)]
      self.trusted = {"roots": keys.read_certificates(root.read_bytes())}
      self.sign = ["--signing_certificate", leaf]
      self.sign += ["--certificate_chain", between]
      self.verify = ["--certificate_chain", root]
    else:
      name = mode
      make.new_key(mode, folder, mode)
      public = folder / f"{mode}.pub.pem"
      self.ours, self.sign = [], []
      self.trusted = {"key": keys.read_public_key(public.read_bytes())}
      self.verify = ["--public_key", public]
    self.mode = "certificate" if mode == "certificate" else "key"
    private = folder / f"{name}.pem"
    self.sign += ["--private_key", private]
    self.key = keys.read_signing_key(private.read_bytes())


@pytest.fixture(params=["p256", "p521", "certificate"])
def pair(request, tmp_path):
  return Pair(request.param, tmp_path)


def test_the_tool_verifies_what_is_signed_here(tool, model, pair, tmp_path):
  """And refuses it after a change, with the name of the file."""
  (model / "card.json").write_text('{"card": 1}')
  path = tmp_path / "ours.sig"
  signatures.sign(model, path, pair.key, *pair.ours)
  check = ("verify", pair.mode, model, "--signature", path, *pair.verify)
  assert tool(*check) == (0, "Verification succeeded\n")
  (model / "card.json").write_text('{"card": 2}')
  code, said = tool(*check)
  assert code == 1 and "Hash mismatch" in said and "card.json" in said


def test_what_the_tool_signs_verifies_here(tool, model, pair):
  """In the model's folder, where it does not cover itself."""
  path = model / "model.sig"
  code, said = tool("sign", pair.mode, model, "--signature", path, *pair.sign)
  assert (code, said) == (0, "Signing succeeded\n")
  found = signatures.verify(model, path, **pair.trusted)
  assert found.files >= 5 and found.uncovered in ([], [".gitattributes"])
  (model / "more").touch()
  with pytest.raises(ModelSignatureError, match=r"more \(not signed\)"):
    signatures.verify(model, path, **pair.trusted)


def test_a_bundle_in_the_folder_verifies_there_too(tool, model, pair):
  path = model / "model.sig"
  signatures.sign(model, path, pair.key, *pair.ours)
  check = ("verify", pair.mode, model, "--signature", path, *pair.verify)
  assert tool(*check) == (0, "Verification succeeded\n")
