"""Tiers in a bucket; see tests/buckets.py for the server."""

import pytest

from keyjax import checkpoint, tiers
from keyjax.checkpoint.storage import claims
from tests import buckets
from tests.tiers.conftest import BASE, EVE, EXPERT, the_tiers, tree

pytestmark = [
  # From other packages: missing credentials, sockets left open.
  pytest.mark.filterwarnings("ignore:.*credentials.*"),
  pytest.mark.filterwarnings("ignore::ResourceWarning"),
  pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.mark.slow
def test_a_bucket(bucket: str) -> None:
  path = f"{bucket}/customer"
  tiers.save(path, tree(), the_tiers())
  assert tiers.restore(path, EXPERT).params["step"] == 7
  objects = buckets.everything(path)
  assert b"customer" not in b"".join(objects.values())
  # A folder that holds only one called tiers is no failed save.
  buckets.write(path, {"commit_success.txt": None, "header/metadata": None})
  with pytest.raises(FileExistsError, match="holds other objects"):
    tiers.save(path, tree(), the_tiers())
  assert checkpoint.restore(f"{path}/tiers/base", BASE)["step"] == 7


@pytest.mark.slow
def test_one_tier_is_revoked_in_a_bucket(bucket: str) -> None:
  path = f"{bucket}/a"
  tiers.save(path, tree(), the_tiers())
  objects = buckets.everything(path)
  expert = {x: y for x, y in objects.items() if "/expert/" in x}
  tiers.reencrypt(path, EXPERT, {"base": BASE}, revoked=[EVE.id])
  after = buckets.everything(path)
  assert {x: y for x, y in after.items() if "/expert/" in x} == expert
  assert not [x for x in after if x.startswith("tiers/base/")]
  assert tiers.restore(path, BASE).present == {"expert": False, "base": True}
  assert tiers.verify(path, EXPERT) == []


@pytest.mark.slow
@pytest.mark.faults
def test_a_killed_save_is_no_checkpoint_and_blocks_none(
  bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
  path = f"{bucket}/a"
  tiers.save(path, tree(), the_tiers())
  # All objects but the mark, which is written last.
  buckets.write(path, {"commit_success.txt": None})
  with pytest.raises(FileNotFoundError, match="no checkpoint at gs://"):
    tiers.restore(path, BASE)
  monkeypatch.setattr(claims, "STALE_SECONDS", 0.0)
  tiers.save(path, tree(), the_tiers())
  assert tiers.verify(path, EXPERT) == []
  with pytest.raises(FileExistsError, match="is never overwritten"):
    tiers.save(path, tree(), the_tiers())
