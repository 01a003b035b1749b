"""A checkpoint with tiers written by an earlier version opens unchanged.

`856cc60_tiers.tar.gz` holds what `make_tiers.py` wrote in a checkout of that
commit: three tiers, of which `expert` opens `base`, and `head` was encrypted
again. The second half opens it without KeyJAX, by docs/formats/tiers.md. All of
its secrets were made for these tests and protect nothing.
"""

import json
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from examples import read_keys, read_sealed
from examples.read_envelope import Refused, open_envelope
from keyjax import checkpoint, keyring, tiers, tree
from keyjax.tiers.index import read_index
from tests.golden import archives

NAMES = ("expert", "head", "base")
LEAVES = {
  "expert": {"block/expert"},
  "head": {"head"},
  "base": {"block/w", "step"},
}
OPENED = {"alice": {"expert", "base"}, "bob": {"head"}, "carol": {"base"}}
RECORD = {"opens": {"expert": ["base"]}, "tiers": list(NAMES)}


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  return archives.unpacked("856cc60_tiers", tmp_path_factory.mktemp("golden"))


def identity(golden: pathlib.Path, name: str) -> Any:
  return keyring.as_identity(keyring.read_key(f"file:{golden}/{name}.txt"))


def want(golden: pathlib.Path, names: set[str]) -> dict[str, np.ndarray]:
  """Return the leaves of some tiers by path, as they were saved."""
  with np.load(golden / "leaves.npz") as stored:
    return {x: stored[x] for name in names for x in LEAVES[name]}


def test_the_index_has_the_same_fields(golden: pathlib.Path) -> None:
  index = read_index(golden / "model")
  stored = json.loads((golden / "index.json").read_text())
  assert (index.id, index.folders) == (stored["id"], stored["tiers"])
  assert tuple(index.folders) == NAMES
  assert index.folders["head"].startswith("head.")
  written = json.loads((golden / "model/header/metadata").read_text())
  assert index.contents() == written
  assert written == {
    "format": "keyjax-tiers",
    "version": 1,
    "id": stored["id"],
    "tiers": [list(x) for x in stored["tiers"].items()],
  }


@pytest.mark.parametrize("name", OPENED)
def test_each_key_opens_its_tiers(golden: pathlib.Path, name: str) -> None:
  path, key = golden / "model", identity(golden, name)
  line = (golden / "verify_key.txt").read_text().strip()
  options = {"step": 7, "verify_key": keyring.parse_verify_key(line)}
  found = tiers.restore(path, key, **options)
  assert found.present == {x: x in OPENED[name] for x in NAMES}
  paths, leaves, _ = tree.flatten(found.params)
  expected = want(golden, OPENED[name])
  assert set(paths) == set(expected)
  for leaf_path, leaf in zip(paths, leaves, strict=True):
    stored = expected[leaf_path]
    assert (leaf.dtype, leaf.shape) == (stored.dtype, stored.shape)
    assert np.asarray(leaf).tobytes() == stored.tobytes(), leaf_path
  assert not list(tiers.verify(path, key, **options))
  keys = tiers.with_sub_keys(path, key)
  for tier in OPENED[name]:
    record = RECORD | {"id": read_index(path).id, "tier": tier}
    metadata = checkpoint.read_metadata(tiers.folder(path, tier), keys)
    assert metadata == {"by": "golden", "keyjax.tiers": record}


@pytest.mark.slow
def test_its_recipients_and_tiers_can_change(
  golden: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  path = shutil.copytree(golden / "model", tmp_path / "model")
  alice, bob = (identity(golden, name) for name in ("alice", "bob"))
  checkpoint.rewrap(tiers.folder(path, "head"), bob, [bob, alice.public])
  assert all(tiers.restore(path, alice).present.values())
  tiers.reencrypt(path, alice, {"base": [bob]})
  assert tiers.restore(path, bob).present["base"]
  with pytest.raises(keyring.CannotOpen):
    tiers.restore(path, identity(golden, "carol"))


def envelope(path: pathlib.Path) -> bytes:
  """Return the envelope of a tier."""
  fields = json.loads((path / "header/metadata").read_bytes())
  return fields["envelope"].encode()


def sub_key(data_key: bytes, lower: str) -> bytes:
  """Return the secret that opens a lower tier: docs/formats/tiers.md."""
  info = f"keyjax/1/keyring/leaf/tier/{lower}".encode()
  return HKDF(hashes.SHA256(), 32, salt=None, info=info).derive(data_key)


def test_a_second_reader_opens_the_lower_tier(golden: pathlib.Path) -> None:
  text = (golden / "alice.txt").read_text()
  path = golden / "model/tiers"
  keys = [read_keys.private_key(text, None)]
  data_key, *_ = open_envelope(envelope(path / "expert"), keys)
  with pytest.raises(Refused):  # She is no recipient of this tier.
    open_envelope(envelope(path / "base"), keys)
  keys = [("secret", sub_key(data_key, "base"))]
  manifest, leaves = read_sealed.open_checkpoint(
    (path / "base/header/metadata").read_bytes(),
    read_sealed.container(path / "base"),
    keys,
    read_keys.public_key((golden / "verify_key.txt").read_text()),
  )
  assert manifest["metadata"]["keyjax.tiers"]["opens"] == RECORD["opens"]
  expected = want(golden, {"base"})
  assert {k: data for k, (_, _, data) in leaves.items()} == {
    k: x.tobytes() for k, x in expected.items()
  }
  for other in (sub_key(data_key, "head"), data_key):
    with pytest.raises(Refused):
      open_envelope(envelope(path / "base"), [("secret", other)])
