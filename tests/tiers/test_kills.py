"""A kill at any moment: all tiers or none, the old ones or the new ones."""

import pathlib
import shutil

import numpy as np
import pytest

from keyjax import Secret, keyring, tiers
from keyjax.tiers import Tier
from tests import trees
from tests.checkpoint.children import Server
from tests.checkpoint.killing import child, walk

OWNER = keyring.SymmetricKey(Secret(b"o" * 32))
FRIEND = keyring.SymmetricKey(Secret(b"f" * 32))
TREE = {"expert": np.ones((99, 9), np.float32), "base": np.zeros(9)}
CHILD = child(
  prepare="""
from keyjax import tiers
from tests.tiers.test_kills import FRIEND, OWNER, save
""",
  work="""
if job == "save":
  save(folder / "new")
else:
  tiers.reencrypt(folder / "old", OWNER, {"expert": FRIEND})
""",
)


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


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("job", ["save", "reencrypt"])
def test_killed_at_write_boundaries(
  job: str, tmp_path: pathlib.Path, children: Server
) -> None:
  if job == "reencrypt":
    save(tmp_path / "old")
  walk(CHILD, tmp_path, children, job, 12, check)
