"""A signed checkpoint with tiers, and the keys of its recipients."""

import pathlib
import shutil
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from keyjax import Secret, keyring, tiers
from keyjax.tiers import Tier

EXPERT = keyring.HpkePrivateKey.generate("x25519")
BASE = keyring.SymmetricKey(Secret(b"b" * 32))
EVE = keyring.SymmetricKey(Secret(b"e" * 32))
SIGNER = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SECRET_NAMES = (b"router", b"hush", b"float32", b"block")


def tree() -> dict[str, Any]:
  """Return a model whose lists and dicts are split between the tiers."""
  return {
    "block": [
      {"w": jnp.arange(3.0), "hush": jnp.asarray([jnp.nan, 1.0])},
      {"w": np.arange(4, dtype=np.int8), "hush": jnp.arange(2, dtype="int32")},
    ],
    "router": {"w": jnp.float32(5)},
    "step": 7,
  }


def the_tiers(**changed: Any) -> list[Tier]:
  """Return tiers: the expert's recipients can open the base."""
  expert = Tier("expert", ".*/hush|router/.*", [EXPERT.public], ["base"])
  return [expert._replace(**changed), Tier("base", ".*", [BASE, EVE])]


class Saved(NamedTuple):
  """A checkpoint with tiers, and another save of the same model."""

  path: pathlib.Path
  other: pathlib.Path


@pytest.fixture(scope="session")
def _saved(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  folder = tmp_path_factory.mktemp("tiers")
  options = {"step": 7, "name": "net", "run": "a", "signer": SIGNER}
  for name in ("model", "other"):
    tiers.save(
      folder / name, tree(), the_tiers(), metadata={"note": "hush"}, **options
    )
  return folder


@pytest.fixture
def saved(_saved: pathlib.Path, tmp_path: pathlib.Path) -> Saved:
  """Return copies of both, in a folder of the test's own."""
  shutil.copytree(_saved, tmp_path, dirs_exist_ok=True)
  return Saved(tmp_path / "model", tmp_path / "other")


def everything(path: pathlib.Path) -> dict[str, bytes]:
  """Return the bytes of the files of a folder, by name."""
  files = [x for x in path.rglob("*") if x.is_file()]
  return {str(x.relative_to(path)): x.read_bytes() for x in files}
