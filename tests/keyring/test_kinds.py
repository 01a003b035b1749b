"""The registry: a kind is one file, for the library and the command line."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from keyjax import keyring
from tests.conftest import ROOT

TOY = pathlib.Path(__file__).with_name("toy_kind.py")
# The file is found in a folder of the package; nothing else mentions it.
PRELUDE = """
import sys
from keyjax.keyring import recipients
recipients.__path__.append(sys.argv.pop(1))
"""
LIBRARY = """
from keyjax import keyring
key = keyring.kinds()["toy"].generate()
text = keyring.format_recipient(key.public)
assert text.startswith("keyjax-toy:"), text
assert keyring.parse_recipient(text).id == key.id
envelope = keyring.seal_envelope(
  bytes(32), [keyring.parse_recipient(text)], checkpoint="m/1")
cheap = keyring.Cost(19456, 1, 1)
for stored in (
  keyring.format_key(key), keyring.protect_key(key, "six words", cheap)):
  again = keyring.parse_key(stored, "six words")
  identity = keyring.as_identity(again)
  assert keyring.open_envelope(envelope, [identity]).data_key == bytes(32)
"""
# All commands in one process, since each start takes a second.
SHELL = """
import contextlib
import io
import json
from keyjax.cli import main

for arguments in json.loads(sys.argv[1]):
  with contextlib.redirect_stdout(io.StringIO()) as out:
    try:
      code = main(arguments)
    except SystemExit as exit:  # From --help.
      code = exit.code
  print(json.dumps([arguments, code, out.getvalue()]))
"""


@pytest.fixture
def run(tmp_path):
  """Return a function that runs a program with the toy kind in place."""
  folder = tmp_path / "kinds"
  folder.mkdir()
  shutil.copy(TOY, folder)

  def call(code, *arguments):
    return subprocess.run(
      [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        PRELUDE + code,
        folder,
        *arguments,
      ],
      cwd=tmp_path,
      env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
      capture_output=True,
      text=True,
    )

  return call


def test_a_kind_is_one_file_in_the_library(run):
  done = run(LIBRARY)
  assert done.returncode == 0, done.stderr


def test_a_kind_is_one_file_on_the_command_line(run, tmp_path):
  import numpy as np
  import safetensors.numpy

  weights = {"w": np.arange(6, dtype=np.float32)}
  safetensors.numpy.save_file(weights, tmp_path / "model.safetensors")
  commands = (
    ["keygen", "toy", "toy.key", "--pub", "--plain"],
    ["encrypt", "model.safetensors", "a", "--to", "@toy.key.pub"],
    ["decrypt", "a", "a.safetensors", "-i", "file:toy.key"],
    ["encrypt", "model.safetensors", "b", "--to", "toy:hello"],
    ["rewrap", "b", "-i", "toy:hello", "--to", "file:toy.key", "--keep"],
    ["decrypt", "b", "b.safetensors", "-i", "toy:hello"],
    ["public", "toy.key", "--json"],
    ["public", "toy.key.pub", "--json"],
    ["keygen", "--help"],
  )
  done = run(SHELL, json.dumps(commands))
  assert done.returncode == 0, done.stderr
  results = [json.loads(line) for line in done.stdout.splitlines()]
  assert [x[:2] for x in results] == [[x, 0] for x in commands], done.stderr
  for name in "ab":
    found = safetensors.numpy.load_file(tmp_path / f"{name}.safetensors")
    np.testing.assert_array_equal(found["w"], weights["w"])
  private, public, told = (x[2] for x in results[-3:])
  (key,) = json.loads(private)["keys"]
  assert key["kind"] == "toy" and key["recipient"].startswith("keyjax-toy:")
  assert json.loads(public)["keys"] == [key]
  assert "  toy               for tests alone" in told
  assert "toy:TEXT, for --to and -i: the toy key of a text" in told


def test_a_second_kind_of_one_name_is_refused():
  with pytest.raises(ValueError, match="a kind of key 'x25519' already"):
    keyring.register(keyring.Kind(name="x25519"))
  assert keyring.kinds()["x25519"].key_type is keyring.HpkePrivateKey
  with pytest.raises(TypeError):
    keyring.kinds()["mine"] = keyring.Kind(name="mine")


@pytest.mark.parametrize("name", ["", "Toy", "a b", "a:b", "-a", "file", "env"])
def test_a_name_that_arguments_could_not_tell_apart_is_refused(name):
  with pytest.raises(ValueError, match="cannot be called"):
    keyring.register(keyring.Kind(name=name))
  assert name not in keyring.kinds()


def test_other_objects_have_no_kind():
  for wrong in (None, b"key", keyring.HpkePrivateKey.generate().public):
    with pytest.raises(keyring.KeyringError, match="is not a private key"):
      keyring.kind_of(wrong)
    with pytest.raises(keyring.KeyringError, match="is not a private key"):
      keyring.format_key(wrong)
