"""A kill, a full disk, a read-only folder: the old or the new checkpoint."""

import json
import os
import pathlib
import shutil

import numpy as np
import pytest

from keyjax import Secret, checkpoint, keyring
from tests import trees
from tests.checkpoint.children import Server
from tests.checkpoint.killing import child, walk

# A child that dies at its n-th call that changes a file system. TensorStore
# writes in its own threads: there, time decides.
CHILD = child(
  prepare="""
import numpy as np
from keyjax import Secret, checkpoint, keyring

owner = keyring.SymmetricKey(Secret.load(folder / "owner"))
friend = keyring.SymmetricKey(Secret.load(folder / "friend"))
tree = {"w": np.full((300, 1000), 2, np.float32)}
""",
  work="""
if job == "save":
  checkpoint.save(folder / "new", tree, owner)
elif job == "rewrap":
  checkpoint.rewrap(folder / "old", owner, friend)
elif job == "reencrypt":
  checkpoint.reencrypt(folder / "old", folder / "new", owner, friend)
""",
)
OLD = {"w": np.full((300, 1000), 1, np.float32)}
NEW = {"w": np.full((300, 1000), 2, np.float32)}


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
  for name in ("owner", "friend"):
    Secret.generate().save(tmp_path / name)
  checkpoint.save(tmp_path / "old", OLD, person(tmp_path, "owner"))
  return tmp_path


def person(folder: pathlib.Path, name: str) -> keyring.SymmetricKey:
  return keyring.SymmetricKey(Secret.load(folder / name))


def check(folder: pathlib.Path, job: str) -> None:
  """Check that the old one opens, a new one is complete, and a retry works."""
  owner = person(folder, "owner")
  friend = person(folder, "friend")
  if job == "rewrap":
    opened = []
    for who in (owner, friend):
      try:
        trees.assert_same_bits(checkpoint.restore(folder / "old", who), OLD)
        opened.append(who)
      except keyring.CannotOpen:
        pass
    (one,) = opened
    checkpoint.rewrap(folder / "old", one, owner)
    left = [p.name for p in (folder / "old/header").glob(".*")]
    assert left == []
    return
  trees.assert_same_bits(checkpoint.restore(folder / "old", owner), OLD)
  new = folder / "new"
  who = owner if job == "save" else friend
  if new.exists():
    want = NEW if job == "save" else OLD
    trees.assert_same_bits(checkpoint.restore(new, who), want)
    assert checkpoint.verify(new, who) == []
    shutil.rmtree(new)
  checkpoint.save(new, NEW, owner)  # Whatever was left does not block it.
  trees.assert_same_bits(checkpoint.restore(new, owner), NEW)
  for left in folder.glob("new*"):
    shutil.rmtree(left)


@pytest.mark.faults
@pytest.mark.parametrize("job", ["save", "rewrap", "reencrypt"])
def test_killed_at_write_boundaries(
  job: str, folder: pathlib.Path, children: Server
) -> None:
  walk(CHILD, folder, children, job, 3, check)


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.parametrize("job", ["save", "rewrap", "reencrypt"])
def test_killed_at_every_write_boundary(
  job: str, folder: pathlib.Path, children: Server
) -> None:
  walk(CHILD, folder, children, job, 10_000, check)


FULL = """
import json, pathlib, resource, sys
import numpy as np
from keyjax import Secret, checkpoint, keyring

folder = pathlib.Path(sys.argv[1])
owner = keyring.SymmetricKey(Secret.load(folder / "owner"))
out = {}

def tell(name, call):
  try:
    call()
    out[name] = ""
  except checkpoint.CheckpointError as error:
    out[name] = str(error)

big = {"w": np.random.default_rng(0).normal(size=(300, 1000))}
people = {"recipients": owner, "identities": owner}
manager = checkpoint.Manager(folder / "m", **people)
manager.save(1, {"w": np.ones(3)})
manager.wait_until_finished()
resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))
tell("rewrap", lambda: checkpoint.rewrap(folder / "old", owner, owner))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
tell("save", lambda: checkpoint.save(folder / "new", big, owner))
tell("reencrypt",
  lambda: checkpoint.reencrypt(folder / "old", folder / "new", owner, owner))
manager.save(2, big)
tell("wait", manager.wait_until_finished)
out["latest"] = manager.latest_step()
manager.close()
print(json.dumps(out))
"""


@pytest.mark.faults
def test_a_full_disk(folder: pathlib.Path, children: Server) -> None:
  done = children.start(FULL, folder)
  assert done.wait() == 0, done.err()
  out = json.loads(done.out())
  for name in ("rewrap", "save", "reencrypt", "wait"):
    assert out[name].endswith("File too large"), out
  assert out["latest"] == 1
  left = {p.name for p in folder.iterdir()}
  assert left == {"owner", "friend", "old", "m"}
  check(folder, "rewrap")
  check(folder, "save")


@pytest.mark.faults
def test_unwritable_folders(folder: pathlib.Path) -> None:
  owner = person(folder, "owner")
  (folder / "file").write_text("a file")
  for parent in (folder / "file", pathlib.Path("/proc/keyjax")):
    with pytest.raises(checkpoint.CheckpointError, match="could not write"):
      checkpoint.save(parent / "c", NEW, owner)
    with pytest.raises(checkpoint.CheckpointError, match="could not write"):
      checkpoint.reencrypt(folder / "old", parent / "c", owner, owner)
  if os.geteuid() != 0:  # Root may write anywhere.
    (folder / "old/header").chmod(0o500)
    with pytest.raises(checkpoint.CheckpointError, match="could not rewrap"):
      checkpoint.rewrap(folder / "old", owner, owner)
  check(folder, "save")
