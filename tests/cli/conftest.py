"""Run commands in an empty folder, and examine their output."""

import base64
import json
import os
import shutil
import subprocess
import sys
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from keyjax import checkpoint, cli, keyring
from tests.conftest import ROOT

CHEAP = keyring.Cost(19456, 1, 1)


class Answer(NamedTuple):
  """Exit code and output of a command."""

  code: int
  out: str
  err: str

  @property
  def json(self):
    return json.loads(self.out)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
  """An empty folder, in which commands run."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.delenv("KEYJAX_IDENTITY", raising=False)
  return tmp_path


@pytest.fixture
def run(capsys):
  """Return a function that runs a command in this process."""

  def call(*argv):
    capsys.readouterr()
    code = cli.main([str(a) for a in argv])
    return Answer(code, *capsys.readouterr())

  return call


def process(*argv):
  """Run a command in a new process, without a terminal."""
  found = subprocess.run(
    [sys.executable, "-m", "keyjax.cli", *argv],
    capture_output=True,
    text=True,
    timeout=120,
    stdin=subprocess.DEVNULL,
    start_new_session=True,  # Without the terminal that runs this test.
    env=os.environ | {"PYTHONPATH": str(ROOT)},
  )
  return Answer(found.returncode, found.stdout, found.stderr)


def tree():
  """Return a model that is small enough for every test."""
  rng = np.random.default_rng(0)
  kernel = jnp.asarray(rng.normal(size=(64, 32)), jnp.float32)
  bias = jnp.arange(32, dtype=jnp.bfloat16)
  return {"dense": {"bias": bias, "kernel": kernel}, "step": jnp.int32(7)}


class Owner(NamedTuple):
  """A key file, its key, and a sealed checkpoint that it opens."""

  source: str
  key: keyring.HpkePrivateKey
  checkpoint: str


@pytest.fixture(scope="session")
def sealed(tmp_path_factory):
  """Save a signed checkpoint once; tests copy it."""
  path = tmp_path_factory.mktemp("sealed") / "model"
  key = keyring.HpkePrivateKey.generate("x25519")
  signer = keyring.SigningKey.generate()
  checkpoint.save(
    path,
    tree(),
    key.public,
    step=7,
    metadata={"note": "from \x1b[31mus"},
    signer=signer.private,
  )
  return path, key, signer


@pytest.fixture
def owner(sealed, folder):
  """Copy the checkpoint to `model`, with its keys next to it."""
  path, key, signer = sealed
  shutil.copytree(path, folder / "model")
  keyring.write_key("owner.key", key, plain=True)
  keyring.write_key("signer.key", signer, plain=True)
  verify = keyring.format_verify_key(signer.public)
  (folder / "signer.key.pub").write_text(f"# the owner's\n{verify}\n")
  return Owner("file:owner.key", key, "model")


def secrets_of(path):
  """Return the spellings in which a key file's key could leak."""
  return spellings(raw_key(keyring.read_key(f"file:{path}")))


def raw_key(key):
  """Return the bytes of a private key."""
  return keyring.kind_of(key).reveal(key)


def spellings(raw):
  """Return how a key, or its second half, could be printed."""
  texts = []
  for part in (raw, raw[len(raw) // 2 :]):
    whole = part[
      : len(part) // 3 * 3
    ]  # Its base64 does not depend on what follows.
    texts += [part.hex(), base64.b64encode(whole).decode(), repr(part)]
  return [text.lower() for text in texts]


def assert_silent(answer, *paths):
  """Assert that no key of these files was printed."""
  printed = (answer.out + answer.err).lower()
  for path in paths:
    for text in secrets_of(path):
      assert text not in printed
  assert "keyjax-secret-" not in printed


def write_private_file(path, text):
  """Write a file that only its owner can read."""
  fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
  with os.fdopen(fd, "w") as file:
    file.write(text)
