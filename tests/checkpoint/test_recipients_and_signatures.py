"""Who can open a checkpoint, and who vouches for it."""

import pathlib
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa

from keyjax import Secret, checkpoint, keyring
from tests import trees
from tests.checkpoint import damage
from tests.checkpoint.test_save_and_restore import tree_of


@pytest.fixture
def owner() -> keyring.SymmetricKey:
  return keyring.SymmetricKey(Secret.generate())


def test_recipients_rewrap_and_reencrypt(
  owner: Any, tmp_path: pathlib.Path
) -> None:
  friend = keyring.SymmetricKey(Secret.generate())
  other = keyring.SymmetricKey(Secret.generate())
  tree = tree_of("bfloat16")
  path = tmp_path / "c"
  checkpoint.save(path, tree, [owner, friend], step=5, metadata={"a": 1})
  for who in (owner, friend):
    trees.assert_same_bits(checkpoint.restore(path, who), tree)
  with pytest.raises(keyring.CannotOpen):
    checkpoint.restore(path, other)
  data = {
    p: p.read_bytes() for p in (path / "sealed").rglob("*") if p.is_file()
  }
  checkpoint.rewrap(path, owner, [other])
  assert all(p.read_bytes() == old for p, old in data.items())
  trees.assert_same_bits(checkpoint.restore(path, other), tree)
  for who in (owner, friend):
    with pytest.raises(keyring.CannotOpen):
      checkpoint.restore(path, who)
  checkpoint.reencrypt(path, tmp_path / "d", other, owner)
  trees.assert_same_bits(
    checkpoint.restore(tmp_path / "d", owner, step=5), tree
  )
  assert checkpoint.read_metadata(tmp_path / "d", owner) == {"a": 1}
  ids = {
    checkpoint.inspect(p)["envelope"]["checkpoint"]
    for p in (path, tmp_path / "d")
  }
  assert len(ids) == 2
  with pytest.raises(FileExistsError):
    checkpoint.reencrypt(path, tmp_path / "d", other, owner)


@pytest.mark.parametrize("kind", ["ed25519", "ml-dsa-65"])
def test_signatures(kind: str, owner: Any, tmp_path: pathlib.Path) -> None:
  make: Any = (
    ed25519.Ed25519PrivateKey if kind == "ed25519" else mldsa.MLDSA65PrivateKey
  )
  signer = make.generate()
  stranger = make.generate()
  tree = {"w": np.arange(20_000, dtype=np.float32)}
  checkpoint.save(tmp_path / "a", tree, owner, signer=signer)
  checkpoint.save(tmp_path / "b", tree, owner)
  right = signer.public_key()
  wrong = stranger.public_key()
  found = checkpoint.restore(tmp_path / "a", owner, verify_key=right)
  trees.assert_same_bits(found, tree)
  with pytest.raises(
    checkpoint.CheckpointError, match="not signed with the expected key"
  ):
    checkpoint.restore(tmp_path / "a", owner, verify_key=wrong)
  with pytest.raises(checkpoint.CheckpointError, match="is not signed"):
    checkpoint.restore(tmp_path / "b", owner, verify_key=right)
  checkpoint.rewrap(tmp_path / "a", owner, owner)  # It stays signed.
  assert checkpoint.verify(tmp_path / "a", owner, verify_key=right) == []
  with pytest.raises(TypeError, match="signed with Ed25519 or ML-DSA-65"):
    checkpoint.save(tmp_path / "e", tree, owner, signer="key")  # type: ignore[arg-type]


def test_a_signing_key_is_asked_for_the_part_that_is_needed(
  owner: Any, tmp_path: pathlib.Path
) -> None:
  key = keyring.SigningKey.generate("ed25519")
  tree = {"w": np.ones(4, np.float32)}
  with pytest.raises(TypeError, match="a SigningKey: give its .private$"):
    checkpoint.save(tmp_path / "a", tree, owner, signer=key)  # type: ignore[arg-type]
  checkpoint.save(tmp_path / "a", tree, owner, signer=key.private)
  with pytest.raises(TypeError, match="a SigningKey: give its .public$"):
    checkpoint.restore(tmp_path / "a", owner, verify_key=key)  # type: ignore[arg-type]


def test_a_recipient_cannot_forge_what_is_signed(
  owner: Any, tmp_path: pathlib.Path
) -> None:
  """A recipient can seal another part, and the signature reveals it."""
  from keyjax.checkpoint.format import manifest
  from keyjax.checkpoint.opened import open_checkpoint
  from keyjax.keyring.data_keys import leaf_key
  from keyjax.seal import seal

  signer = ed25519.Ed25519PrivateKey.generate()
  path = tmp_path / "c"
  tree = {"w": np.arange(5000, dtype=np.float32)}
  checkpoint.save(path, tree, owner, signer=signer)
  opened = open_checkpoint(path, owner)
  (leaf,) = opened.manifest.leaves
  (part,) = leaf.parts
  bound = manifest.part_context(opened.manifest, leaf, part)
  forged = seal(
    leaf_key(opened.data_key, "leaf", "w"), np.zeros(5000, np.float32), bound
  )
  damage.replace(path, damage.message(path, owner, "w"), forged)
  assert not checkpoint.restore(path, owner)[
    "w"
  ].any()  # No signature was required.
  with pytest.raises(checkpoint.CheckpointError, match="leaf w does not open"):
    checkpoint.restore(path, owner, verify_key=signer.public_key())
  (problem,) = checkpoint.verify(path, owner)
  assert problem.where == "w" and "not what was signed" in problem.what
  # Nor does the owner sign it for them.
  with pytest.raises(checkpoint.CheckpointError, match="leaf w does not open"):
    checkpoint.reencrypt(path, tmp_path / "d", owner, owner, signer=signer)
  assert not (tmp_path / "d").exists()
