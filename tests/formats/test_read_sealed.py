"""The second reader opens the files of an earlier commit, container and all."""

import ast
import json
import pathlib
import sys
from typing import Any

import numpy as np
import pytest

from examples import read_envelope, read_keys, read_locked, read_sealed
from examples.read_envelope import Refused
from tests.conftest import ROOT
from tests.golden import archives

PASSPHRASE = "correct horse battery staple"
SECRET = bytes(range(32))


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  return archives.unpacked("70c8ca2", tmp_path_factory.mktemp("golden"))


def read(path: pathlib.Path, keys: Any, verify_key: Any = None) -> Any:
  header = (path / "header/metadata").read_bytes()
  rows = read_sealed.container(path)
  return read_sealed.open_checkpoint(header, rows, keys, verify_key)


def test_it_imports_nothing_of_keyjax() -> None:
  allowed = {*sys.stdlib_module_names, "cryptography", "examples"}
  for file in sorted((ROOT / "examples").glob("read_*.py")):
    for node in ast.walk(ast.parse(file.read_text())):
      names = [x.name for x in getattr(node, "names", [])]
      if isinstance(node, ast.ImportFrom):
        names = [str(node.module)]
      elif not isinstance(node, ast.Import):
        continue
      tops = {name.partition(".")[0] for name in names}
      container = file.name == "read_sealed.py" and tops == {"tensorstore"}
      assert tops <= allowed or container, (file.name, tops)


def test_checkpoints(golden: pathlib.Path) -> None:
  public = json.loads((golden / "keyring/public.json").read_text())
  verify_key = read_keys.public_key(public["ed25519"])
  path = golden / "checkpoint_signed"
  x25519 = (golden / "keyring/x25519.protected.json").read_text()
  for key in (("secret", SECRET), read_keys.private_key(x25519, PASSPHRASE)):
    manifest, leaves = read(path, [key], verify_key)
    assert manifest["step"] == 7 and manifest["metadata"] == {"by": "golden"}
    with np.load(golden / "state.npz") as want:
      assert {p: x[2] for p, x in leaves.items()} == {
        p: want[p].tobytes() for p in want.files
      }
  ring = (golden / "keyring/team-a.keyring").read_bytes()
  licensing = read_keys.open_keyring(ring, SECRET)["licensing"]
  mine = read_envelope.derive(read_envelope.octets(licensing), "licensee/lab")
  lab = ("secret", read_envelope.derive(mine, "key"))
  assert set(read(golden / "checkpoint_licensed", [lab])[1]) == {"kernel"}
  with pytest.raises(Refused):
    read(golden / "checkpoint_licensed", [lab], verify_key)
  assert read(golden / "manager/3", [("secret", SECRET)])[0]["step"] == 3


def test_key_files_and_envelopes(golden: pathlib.Path) -> None:
  folder = golden / "keyring"
  ids = json.loads((folder / "ids.json").read_text())
  envelope = (folder / "envelope.json").read_bytes()
  for file in folder.glob("*.plain.txt"):
    kind, raw = read_keys.private_key(file.read_text())
    if kind == "rsa":  # OpenSSL checks its primes, which takes a second.
      continue
    if kind in ("secret", "device"):  # Each takes a tenth of a second.
      protected = (folder / f"{kind}.protected.json").read_text()
      assert read_keys.private_key(protected, PASSPHRASE) == (kind, raw)
    opener = read_envelope.KINDS[kind]
    if opener:
      assert opener(raw)[0] == ids[kind]
      data_key, *_ = read_envelope.open_envelope(envelope, [(kind, raw)])
      assert data_key == bytes(range(32, 64))
  data = (folder / "envelope_passphrase.json").read_bytes()
  key = ("passphrase", PASSPHRASE.encode())
  assert read_envelope.open_envelope(data, [key])[0] == bytes(range(32, 64))


LOCKED = ("deep_lock_chain", "deep_lock_chain_256", "deep_lock_counter")


@pytest.mark.parametrize("name", [*LOCKED, "keyed_noise"])
def test_locked_trees(golden: pathlib.Path, name: str) -> None:
  folder = golden / "schemes"
  key = read_locked.read_key((folder / f"{name}.msgpack").read_bytes())
  with np.load(folder / f"{name}.npz") as stored:
    leaves = {
      path: (str(x.dtype), x.shape, x.tobytes()) for path, x in stored.items()
    }
  opened = read_locked.unlock(key, leaves)
  with np.load(folder / "plain.npz") as plain:
    assert {p: x[2] for p, x in opened.items()} == {
      p: plain[p].tobytes() for p in plain.files
    }


def test_the_command(
  golden: pathlib.Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
  path = str(golden / "checkpoint_signed")
  key = str(golden / "root.hex")
  read_sealed.main(path, key)
  assert b"step 7" in capsysbinary.readouterr().out
  read_sealed.main(path, key, "kernel")
  with np.load(golden / "state.npz") as want:
    assert capsysbinary.readouterr().out == want["kernel"].tobytes()
