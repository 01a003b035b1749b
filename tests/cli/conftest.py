"""Runs commands in a folder of their own, and looks at what they print."""

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

from keyjax import Secret, checkpoint, cli, keyring
from tests.conftest import ROOT

CHEAP = keyring.Cost(19456, 1, 1)


class Answer(NamedTuple):
  """What a command gave back."""

  code: int
  out: str
  err: str

  @property
  def json(self):
    return json.loads(self.out)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
  """An empty folder, which is where commands run."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.delenv("KEYJAX_IDENTITY", raising=False)
  return tmp_path


@pytest.fixture
def run(capsys):
  """Runs a command in this process."""

  def call(*argv):
    capsys.readouterr()
    code = cli.main([str(a) for a in argv])
    return Answer(code, *capsys.readouterr())

  return call


def process(*argv):
  """Runs a command in a process of its own, without a terminal."""
  found = subprocess.run(
    [sys.executable, "-m", "keyjax.cli", *argv],
    capture_output=True,
    text=True,
    timeout=120,
    stdin=subprocess.DEVNULL,
    start_new_session=True,  # The terminal of whoever runs this stays out.
    env=os.environ | {"PYTHONPATH": str(ROOT)},
  )
  return Answer(found.returncode, found.stdout, found.stderr)


def tree():
  """A model small enough for every test."""
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
  """A checkpoint that is sealed and signed once; tests copy it."""
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
  """A copy of the checkpoint, `model`, with its keys beside it."""
  path, key, signer = sealed
  shutil.copytree(path, folder / "model")
  keyring.write_key("owner.key", key, plain=True)
  keyring.write_key("signer.key", signer, plain=True)
  verify = keyring.format_verify_key(signer.public)
  (folder / "signer.key.pub").write_text(f"# the owner's\n{verify}\n")
  return Owner("file:owner.key", key, "model")


def secrets_of(path):
  """Returns the spellings in which a key file's key could leak."""
  key = keyring.read_key(f"file:{path}")
  raw = key._bytes if isinstance(key, Secret) else key.reveal()
  return spellings(raw)


def spellings(raw):
  """Returns how a key, or its second half, could be printed."""
  out = []
  for part in (raw, raw[len(raw) // 2 :]):
    whole = part[: len(part) // 3 * 3]  # The same whatever follows it.
    out += [part.hex(), base64.b64encode(whole).decode(), repr(part)]
  return [text.lower() for text in out]


def assert_silent(answer, *paths):
  """Raises unless no key of these files is in what was printed."""
  printed = (answer.out + answer.err).lower()
  for path in paths:
    for text in secrets_of(path):
      assert text not in printed
  assert "keyjax-secret-" not in printed


def write_private_file(path, text):
  """Writes a file that its owner alone can read."""
  fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
  with os.fdopen(fd, "w") as file:
    file.write(text)
