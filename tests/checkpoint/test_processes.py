"""Two real processes save a checkpoint; both, and one alone, restore it."""

import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from keyjax import Secret, checkpoint, tiers
from keyjax.keyring import SymmetricKey
from tests import ports
from tests.checkpoint import two
from tests.conftest import ROOT


def run(folder: pathlib.Path, job: str, where: str = "") -> None:
  port = ports.free_port()
  children = [
    subprocess.Popen(
      [sys.executable, "-m", "tests.checkpoint.two"]
      + [str(port), str(i), str(folder), job, where or str(folder)],
      cwd=ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(2)
  ]
  try:
    for i, child in enumerate(children):
      out, err = child.communicate(timeout=240)
      assert out.endswith(f"done {i}\n"), err[-4000:]
  finally:
    for child in children:
      child.kill()


@pytest.mark.multiprocess
def test_two_processes_save_and_restore(tmp_path: pathlib.Path) -> None:
  Secret.generate().save(tmp_path / "key")
  owner = SymmetricKey(Secret.load(tmp_path / "key"))
  run(tmp_path, "save")
  path = tmp_path / "c"
  told = checkpoint.inspect(path, owner)
  assert (told["processes"], told["step"], told["signed"]) == (2, 7, True)
  assert checkpoint.verify(path, owner) == []
  for file in tmp_path.rglob("*"):
    assert file.is_dir() or bytes(tmp_path) not in file.read_bytes(), file
  public = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
  verify_key = public.public_key()
  # One process, on other meshes, with signature and digests checked.
  for shape in ((8, 1), (2, 2), (1, 1)):
    devices = np.asarray(jax.devices()[: shape[0] * shape[1]]).reshape(shape)
    mesh = jax.sharding.Mesh(devices, ("a", "b"))
    like = two.tree(mesh, False)
    found = checkpoint.restore(path, owner, like, verify_key=verify_key)
    two.assert_equal(found)
  two.assert_equal(checkpoint.restore(path, owner))
  parts = tiers.restore(tmp_path / "tiers", owner, verify_key=verify_key)
  two.assert_equal(parts.params)
  # One process gives it a new data key; two restore that.
  checkpoint.reencrypt(path, tmp_path / "c2", owner, owner)
  path.rename(tmp_path / "old")
  (tmp_path / "c2").rename(path)
  assert checkpoint.inspect(path, owner)["processes"] == 1
  run(tmp_path, "restore")


def test_neither_process_writes_everything() -> None:
  from keyjax.checkpoint.format import layout

  leaves = [(np.zeros((1 << 20, 8), np.float32), 4) for _ in range(3)]
  parts = layout.assign_parts(leaves, 2)
  _, used = layout.assign_offsets(parts, [4] * 3, 2)
  assert max(used) < 0.6 * sum(used)
