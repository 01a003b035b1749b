"""A one-time key encrypts one tree, whatever is done with its file."""

import os
import pathlib
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import keyjax
from keyjax import Secret, keys, seal
from tests import trees

PARAMS = {"a": {"w": jnp.arange(4.0)}, "n": jnp.int32(3)}
OTHERS = {
  "a value": {"a": {"w": jnp.arange(4.0).at[3].add(1)}, "n": jnp.int32(3)},
  "a sign": {"a": {"w": jnp.arange(4.0).at[0].set(-0.0)}, "n": jnp.int32(3)},
  "another leaf": {"a": {"w": jnp.arange(4.0)}, "n": jnp.int32(4)},
  "a dtype": {"a": {"w": jnp.arange(4).view("float32")}, "n": jnp.int32(3)},
  "a shape": {"a": {"w": jnp.arange(4.0)[None]}, "n": jnp.int32(3)},
  "a path": {"b": {"w": jnp.arange(4.0)}, "n": jnp.int32(3)},
}
ONE_TIME = {
  "counter": keyjax.deep_lock("counter"),
  "noise": keyjax.keyed_noise(".*"),
  "chain": keyjax.chain(keyjax.keyed_noise("a/w"), keyjax.deep_lock("counter")),
  "partition": keyjax.partition({"a/.*": keyjax.deep_lock("counter")}),
}
READ = "was read from a file and may have encrypted before"


def save(path: pathlib.Path, scheme: keyjax.Scheme, **options: Any) -> Any:
  key = scheme.keygen(Secret.generate(), PARAMS, None)
  keys.save(path, key, **options)
  return key


@pytest.mark.parametrize("name", ONE_TIME)
def test_a_key_from_a_file_only_decrypts(
  name: str, tmp_path: pathlib.Path
) -> None:
  scheme = ONE_TIME[name]
  locked = scheme.encrypt(save(tmp_path / "key", scheme), PARAMS)
  loaded = keys.load(tmp_path / "key")
  trees.assert_same_bits(scheme.decrypt(loaded, locked), PARAMS)
  for encrypt in (scheme.encrypt, jax.jit(scheme.encrypt)):
    with pytest.raises(ValueError, match=READ):
      encrypt(loaded, PARAMS)
  with pytest.raises(ValueError, match="does not say what its key has"):
    keys.claim(tmp_path / "key", PARAMS)
  # Nor does a file that is written from it.
  with pytest.raises(ValueError, match="it may have been used"):
    keys.save(tmp_path / "again", loaded, unused=True)
  keys.save(tmp_path / "again", loaded)
  with pytest.raises(ValueError, match="does not say what its key has"):
    keys.claim(tmp_path / "again", PARAMS)


@pytest.mark.parametrize("name", ["counter", "chain"])
def test_a_file_remembers_what_claimed_its_key(
  name: str, tmp_path: pathlib.Path
) -> None:
  path, scheme = tmp_path / "key", ONE_TIME[name]
  fresh = save(path, scheme, unused=True)
  shutil.copy2(path, tmp_path / "copy")
  locked = scheme.encrypt(keys.claim(path, PARAMS), PARAMS)
  trees.assert_same_bits(locked, scheme.encrypt(fresh, PARAMS))
  trees.assert_same_bits(keys.claim(path, PARAMS), fresh)  # After a crash.
  remembered = path.read_bytes()
  for other in OTHERS.values():
    with pytest.raises(ValueError, match="key is the key of another tree"):
      keys.claim(path, other)
  assert path.read_bytes() == remembered
  assert path.stat().st_mode & 0o777 == 0o600
  trees.assert_same_bits(scheme.decrypt(keys.load(path), locked), PARAMS)
  # What is stored is keyed: it tells nothing to those who lack the key.
  other = tmp_path / "other"
  save(other, scheme, unused=True)
  keys.claim(other, PARAMS)
  assert remembered[-40:] != other.read_bytes()[-40:]


@pytest.mark.parametrize("name", ["counter", "chain"])
def test_a_claimed_key_is_not_saved_as_unused(
  name: str, tmp_path: pathlib.Path
) -> None:
  scheme = ONE_TIME[name]
  fresh = save(tmp_path / "key", scheme, unused=True)
  claimed = keys.claim(tmp_path / "key", PARAMS)
  parts = claimed if isinstance(claimed, tuple) else (claimed,)
  for key in (claimed, fresh, *parts):
    with pytest.raises(ValueError, match="claimed for a tree, so it is not"):
      keys.save(tmp_path / "again", key, unused=True)
  keys.save(tmp_path / "again", claimed)
  with pytest.raises(ValueError, match="does not say what its key has"):
    keys.claim(tmp_path / "again", PARAMS)


@pytest.mark.parametrize("name", ONE_TIME)
def test_a_tree_that_does_not_fit_leaves_the_key_unused(
  name: str, tmp_path: pathlib.Path
) -> None:
  path, scheme = tmp_path / "key", ONE_TIME[name]
  save(path, scheme, unused=True)
  for other in (OTHERS["a shape"], OTHERS["a path"], {}):
    with pytest.raises(ValueError, match="it was not claimed"):
      keys.claim(path, other)
  scheme.encrypt(keys.claim(path, PARAMS), PARAMS)


def test_a_sealing_key_from_a_file_only_opens(tmp_path: pathlib.Path) -> None:
  key, data = seal.seal_key(bytes(16)), jnp.zeros(20, jnp.uint8)
  message = seal.seal_array(key, data)
  keys.save(tmp_path / "key", key)
  loaded = keys.load(tmp_path / "key")
  with pytest.raises(ValueError, match=READ):
    seal.seal_array(loaded, data)
  opened, valid = seal.unseal_array(loaded, message)
  assert valid and not opened.any()


def test_keys_without_a_nonce_encrypt_any_tree(tmp_path: pathlib.Path) -> None:
  scheme = keyjax.deep_lock()
  key = save(tmp_path / "key", scheme)
  for read in (keys.load(tmp_path / "key"), keys.claim(tmp_path / "key", {})):
    trees.assert_same_bits(read, key)
    scheme.encrypt(read, OTHERS["a value"])
  assert [p.name for p in tmp_path.iterdir()] == ["key"]


def test_other_names_of_a_key_file_remember_the_tree(
  tmp_path: pathlib.Path,
) -> None:
  scheme = keyjax.deep_lock("counter")
  trees = [{"w": jnp.full(8, value, jnp.float32)} for value in (0, 1)]
  key = scheme.keygen(Secret.generate(), trees[0], None)
  keys.save(tmp_path / "real", key, unused=True)
  (tmp_path / "link").symlink_to(tmp_path / "real")
  keys.claim(tmp_path / "link", trees[0])
  assert (tmp_path / "link").is_symlink()
  with pytest.raises(ValueError, match="the key of another tree"):
    keys.claim(tmp_path / "real", trees[1])
  os.link(tmp_path / "real", tmp_path / "hard")
  with pytest.raises(ValueError, match="remove the other hard links"):
    keys.claim(tmp_path / "hard", trees[0])
