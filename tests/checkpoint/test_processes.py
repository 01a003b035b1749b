"""Two real processes save a checkpoint; both, and one alone, restore it."""

import json
import os
import pathlib
import signal
import threading

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from keyjax import Secret, checkpoint, tiers
from keyjax.keyring import SymmetricKey
from tests import ports
from tests.checkpoint import two
from tests.checkpoint.children import Server

PROGRAM = """
import json, os, runpy, sys
os.environ.update(json.loads(sys.argv.pop()))  # The server may be older.
runpy.run_module("tests.checkpoint.two", run_name="__main__", alter_sys=True)
"""


def run(
  server: Server, folder: pathlib.Path, job: str, where: str = ""
) -> None:
  port = ports.free_port()
  env = json.dumps(dict(os.environ))
  children = [
    server.start(PROGRAM, port, i, folder, job, where or folder, env)
    for i in range(2)
  ]
  timers = [
    threading.Timer(240, os.kill, (child.pid, signal.SIGKILL))
    for child in children
  ]
  for timer in timers:
    timer.start()
  try:
    codes = [child.wait() for child in children]
  finally:
    for timer in timers:
      timer.cancel()
  for i, child in enumerate(children):
    assert child.out().endswith(f"done {i}\n"), (codes, child.err())


@pytest.mark.multiprocess
def test_two_processes_save_and_restore(
  tmp_path: pathlib.Path, children: Server
) -> None:
  Secret.generate().save(tmp_path / "key")
  owner = SymmetricKey(Secret.load(tmp_path / "key"))
  run(children, tmp_path, "save")
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
  # The place of each process is for two, and not for one.
  people = {"recipients": owner, "identities": owner}
  for name, keys in (("items", people), ("plain", {})):
    with checkpoint.Manager(tmp_path / name, **keys) as manager:
      params = ocp.args.Composite(params=None)
      two.assert_equal(manager.restore(args=params).params)
      data = grain.checkpoint.CheckpointRestore(two.Data(0))
      with pytest.raises(checkpoint.CheckpointError, match="other processes"):
        manager.restore(args=ocp.args.Composite(data=data))
  # One process gives it a new data key; two restore that.
  checkpoint.reencrypt(path, tmp_path / "c2", owner, owner)
  path.rename(tmp_path / "old")
  (tmp_path / "c2").rename(path)
  assert checkpoint.inspect(path, owner)["processes"] == 1
  run(children, tmp_path, "restore")


def test_neither_process_writes_everything() -> None:
  from keyjax.checkpoint.format import layout

  leaves = [(np.zeros((1 << 20, 8), np.float32), 4) for _ in range(3)]
  parts = layout.assign_parts(leaves, 2)
  _, used = layout.assign_offsets(parts, [4] * 3, 2)
  assert max(used) < 0.6 * sum(used)
