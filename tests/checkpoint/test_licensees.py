"""Licensees of copies, and folders that a Manager does not expect."""

import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from keyjax import Secret, checkpoint, keyring
from keyjax.checkpoint.parts import sealing
from keyjax.checkpoint.saving import describe_tree
from keyjax.checkpoint.storage import sealed_files
from keyjax.keyring import Keyring, SymmetricKey

# Messages of 32 bytes, as in test_save_and_restore.py: each size is compiled.
TREE = {"w": np.arange(8, dtype=np.float32), "b": jnp.zeros(16, jnp.bfloat16)}


@pytest.mark.parametrize("impl", ["host", "device"])
def test_marked_copies_are_traced(tmp_path: pathlib.Path, impl) -> None:
  ring = Keyring.create(tmp_path / "ring", Secret.generate(), "team")
  owner = ring.recipient()
  others = SymmetricKey(Secret.generate())
  for name in ("lab", "shop"):
    licensee = ring.issue(name)
    copy = tmp_path / name
    args = copy, TREE, [owner, licensee.recipient()]
    checkpoint.save(*args, salt=licensee.salt, impl=impl)
    assert checkpoint.trace(copy, ring) == name
    # Replacing the envelope does not remove the marks of the messages.
    checkpoint.rewrap(copy, ring.identities(), others)
    assert checkpoint.trace(copy, ring) == name
    again = tmp_path / f"{name}-again"
    checkpoint.reencrypt(copy, again, others, others)
    assert checkpoint.trace(again, ring) is None  # As documented.
    checkpoint.reencrypt(
      copy, tmp_path / f"{name}-2", others, others, salt=licensee.salt
    )
    assert checkpoint.trace(tmp_path / f"{name}-2", ring) == name
    np.testing.assert_array_equal(
      checkpoint.restore(copy, others)["w"], TREE["w"]
    )
  plain = tmp_path / "nobody"
  checkpoint.save(plain, TREE, owner)
  assert checkpoint.trace(plain, ring) is None


def test_every_message_of_a_copy_has_its_own_salt(
  tmp_path: pathlib.Path,
) -> None:
  ring = Keyring.create(tmp_path / "ring", Secret.generate(), "team")
  lab = ring.issue("lab")
  salts = []

  def salt() -> bytes:
    salts.append(lab.salt())
    return salts[-1]

  checkpoint.save(tmp_path / "copy", TREE, lab.recipient(), salt=salt)
  assert len(set(salts)) == len(salts) >= 4  # Two leaves, padding, manifest.
  stream = b"".join(
    p.read_bytes() for p in (tmp_path / "copy").rglob("*") if p.is_file()
  )
  assert all(s in stream for s in salts)


def test_managers_do_not_mix_plain_and_sealed(tmp_path: pathlib.Path) -> None:
  key = SymmetricKey(Secret.generate())
  for name, first, second in (
    ("sealed", {"recipients": key, "identities": key}, {}),
    ("plain", {}, {"recipients": key, "identities": key}),
  ):
    folder = tmp_path / name
    with checkpoint.Manager(folder, **first) as manager:
      manager.save(1, TREE)
    assert sealed_files.is_sealed(folder / "1") == (name == "sealed")
    with pytest.raises(
      checkpoint.CheckpointError, match=f"holds {name} checkpoints"
    ):
      checkpoint.Manager(folder, **second)
    with checkpoint.Manager(folder, **first) as manager:
      assert manager.latest_step() == 1
      manager.save(2, TREE)


def test_saved_secrets_are_read_as_keys(
  tmp_path: pathlib.Path,
) -> None:
  secret = Secret.generate()
  secret.save(tmp_path / "secret")
  assert keyring.read_key(f"file:{tmp_path / 'secret'}") == secret


def test_pending_messages_show_no_key() -> None:
  leaves, found = describe_tree(TREE, 0, {}, signed=False)
  found, data_key = found._replace(id="0" * 32), bytes(range(32))
  waiting = [*sealing.stream_messages(found, data_key, leaves, 0, "host")]
  assert len(waiting) >= 3
  for path in ("w", "b"):
    secret = keyring.leaf_key(data_key, "leaf", path)
    assert not any(
      text in repr(waiting)
      for text in (repr(secret), secret.hex(), repr(data_key), data_key.hex())
    )


def test_unknown_impl(tmp_path: pathlib.Path) -> None:
  key = SymmetricKey(Secret.generate())
  with pytest.raises(ValueError, match="impl is .* got 'gpu'"):
    checkpoint.save(tmp_path / "c", TREE, key, impl="gpu")  # type: ignore[arg-type]
  assert not [*tmp_path.iterdir()]
  checkpoint.save(tmp_path / "c", TREE, key)
  with pytest.raises(ValueError, match="impl is .* got 'gpu'"):
    checkpoint.restore(tmp_path / "c", key, impl="gpu")  # type: ignore[arg-type]
