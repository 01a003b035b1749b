"""A kill at any moment: all tiers or none, the old ones or the new ones."""

import pathlib
import shutil
import signal

import numpy as np
import pytest

from keyjax import Secret, keyring, tiers
from keyjax.tiers import Tier
from tests import trees
from tests.checkpoint.children import Server

OWNER = keyring.SymmetricKey(Secret(b"o" * 32))
FRIEND = keyring.SymmetricKey(Secret(b"f" * 32))
TREE = {"expert": np.ones((99, 9), np.float32), "base": np.zeros(9)}
# A child that dies at its n-th call that changes a file system.
CHILD = """
import os, pathlib, signal, sys
from keyjax import tiers
from tests.tiers.test_kills import FRIEND, OWNER, save

folder, job, at = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
count = 0

def deadly(function):
  def call(*args, **kwargs):
    global count
    count += 1
    if count == at:
      os.kill(os.getpid(), signal.SIGKILL)
    return function(*args, **kwargs)
  return call

for name in ("mkdir", "rename", "replace", "unlink", "rmdir", "fsync", "link"):
  setattr(os, name, deadly(getattr(os, name)))
os.open = deadly(os.open)
if job == "save":
  save(folder / "new")
else:
  tiers.reencrypt(folder / "old", OWNER, {"expert": FRIEND})
print("calls", count, flush=True)
"""


@pytest.fixture(scope="module")
def children():
  server = Server()
  try:
    yield server
  finally:
    server.close()


def save(path: pathlib.Path) -> None:
  parts = [Tier("expert", "expert", OWNER), Tier("base", ".*", OWNER)]
  tiers.save(path, TREE, parts)


def check(folder: pathlib.Path, job: str) -> None:
  path = folder / ("new" if job == "save" else "old")
  if job == "save":
    if path.exists():
      trees.assert_same_bits(tiers.restore(path, OWNER).params, TREE)
      shutil.rmtree(path)
    save(path)  # Whatever was left does not block it.
    trees.assert_same_bits(tiers.restore(path, OWNER).params, TREE)
    assert {x.name for x in folder.iterdir() if x.name[0] != "."} == {"new"}
    shutil.rmtree(path)
    return
  found = tiers.restore(path, OWNER)
  assert found.params["base"].size == 9
  assert tiers.restore(path, [FRIEND, OWNER]).present["expert"]
  with_expert = tiers.inspect(path, [FRIEND, OWNER])["tiers"]["expert"]
  old = with_expert["envelope"]["recipients"] == [OWNER.id]
  assert found.present["expert"] == old
  shutil.rmtree(path)
  save(path)


def walk(folder: pathlib.Path, children: Server, job: str, points: int) -> None:
  if job == "reencrypt":
    save(folder / "old")
  done = children.start(CHILD, folder, job, 0)
  assert done.wait() == 0, done.err()
  total = int(done.out().split()[-1])
  check(folder, job)
  every = np.unique(np.linspace(1, total, min(points, total)).astype(int))
  for at in every.tolist():
    killed = children.start(CHILD, folder, job, at)
    assert killed.wait() in (0, -signal.SIGKILL), killed.err()
    check(folder, job)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("job", ["save", "reencrypt"])
def test_killed_at_write_boundaries(
  job: str, tmp_path: pathlib.Path, children: Server
) -> None:
  walk(tmp_path, children, job, 12)
