"""Plain checkpoints: every bit is restored, or there is a clear error."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import keyjax
from keyjax import Secret, checkpoint, keyring, quantize
from tests import trees
from tests.checkpoint.states import constant

NANS = np.array([0x7FC00000, 0x7FA00001, 0xFF812345, 0x80000001], np.uint32)
TREE = {"w": jnp.arange(6.0).reshape(2, 3), "n": {"b": jnp.ones(3, jnp.int8)}}
SECRET_TEXT = "424242"  # of Secret(b"B" * 32)


def locked(dtype: str) -> Any:
  params = trees.params(dtype)
  scheme = keyjax.deep_lock()
  key = scheme.keygen(Secret.generate(), params, None)
  return scheme.encrypt(key, params)


# ---------------------------------------------------------------- round trip


@pytest.mark.parametrize("dtype", trees.DTYPES)
def test_locked_params_are_restored_bit_for_bit(
  dtype: str, tmp_path: pathlib.Path
) -> None:
  words = {"int8": "uint8", "float32": "uint32"}.get(dtype, "uint16")
  tree = locked(dtype)
  assert str(tree["conv"]["kernel"].dtype) == words
  checkpoint.save_plain(tmp_path / "c", tree)
  trees.assert_same_bits(checkpoint.restore_plain(tmp_path / "c", tree), tree)


def test_a_tree_is_read_without_its_structure(tmp_path: pathlib.Path) -> None:
  state = optax.adam(1e-3).init(TREE)
  checkpoint.save_plain(tmp_path / "c", {"params": TREE, "opt": state})
  found = checkpoint.restore_plain(tmp_path / "c")
  trees.assert_same_bits(found["params"], TREE)
  leaves = jax.tree.leaves(found)
  want = jax.tree.leaves({"opt": state, "params": TREE})
  trees.assert_same_bits(leaves, want)
  assert all(isinstance(x, jax.Array) for x in leaves)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_nan_patterns_are_restored_bit_for_bit(
  dtype: str, tmp_path: pathlib.Path
) -> None:
  halves = NANS >> (0 if dtype == "float32" else 16)
  word = np.uint32 if dtype == "float32" else np.uint16
  tree = {"x": jnp.asarray(halves.astype(word)).view(dtype)}
  checkpoint.save_plain(tmp_path / "c", tree)
  found = checkpoint.restore_plain(tmp_path / "c", tree)
  np.testing.assert_array_equal(trees.bits(found["x"]), halves)


def test_quantised_and_optimiser_states_are_restored(
  tmp_path: pathlib.Path,
) -> None:
  params = {"kernel": jax.random.normal(jax.random.key(0), (5, 3))}
  rule = optax.chain(optax.add_decayed_weights(0.1), optax.adam(1e-3))
  quantised = quantize.quantize(params)
  scheme = keyjax.masked(keyjax.deep_lock(), quantize.INT8_LEAVES)
  key = scheme.keygen(Secret.generate(), quantised, None)
  tree = {
    "quantised": quantised,
    "locked": scheme.encrypt(key, quantised),
    "optimiser": rule.init(params),
    "many": tuple(jnp.float32(i) for i in range(11)),
    "scalar": np.float32(2),
    "empty": jnp.zeros((0, 4), jnp.bfloat16),
  }
  checkpoint.save_plain(tmp_path / "c", tree)
  trees.assert_same_bits(checkpoint.restore_plain(tmp_path / "c", tree), tree)
  with checkpoint.Manager(tmp_path / "m") as manager:
    manager.save(1, tree)
    manager.wait_until_finished()
    trees.assert_same_bits(manager.restore(tree), tree)


def test_restore_onto_a_mesh_with_another_sharding(
  tmp_path: pathlib.Path,
) -> None:
  mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("a", "b"))
  words = np.arange(64, dtype=np.uint32).reshape(8, 8) * np.uint32(66_666_667)
  rows = jax.device_put(words, NamedSharding(mesh, P("a")))
  checkpoint.save_plain(tmp_path / "c", {"w": rows})
  wanted = NamedSharding(mesh, P(None, ("b", "a")))
  like = {"w": jax.ShapeDtypeStruct((8, 8), jnp.uint32, sharding=wanted)}
  found = checkpoint.restore_plain(tmp_path / "c", like)["w"]
  assert found.sharding.is_equivalent_to(wanted, 2)
  assert {s.data.shape for s in found.addressable_shards} == {(8, 1)}
  np.testing.assert_array_equal(found, words)


# -------------------------------------------------------------------- keys


def made_keys() -> dict[str, Any]:
  key = keyjax.deep_lock().keygen(Secret(b"B" * 32), TREE, None)
  return {
    "key": key,
    "in a dict": {"params": TREE, "more": {"key": key}},
    "in a tuple": (TREE, (key, key)),
    "secret": Secret(b"B" * 32),
    "secret in a list": [TREE, [Secret(b"B" * 32)]],
  }


@pytest.mark.parametrize("where", [*made_keys()])
def test_keys_and_secrets_are_refused(
  where: str, tmp_path: pathlib.Path
) -> None:
  tree = made_keys()[where]
  with pytest.raises(ValueError, match="holds no keys") as caught:
    checkpoint.save_plain(tmp_path / "c", tree)
  with (
    checkpoint.Manager(tmp_path / "m") as manager,
    pytest.raises(ValueError, match="holds no keys") as again,
  ):
    manager.save(1, tree)
  for text in (str(caught.value), str(again.value)):
    assert SECRET_TEXT not in text and "BBB" not in text
  assert not (tmp_path / "c").exists()
  with checkpoint.Manager(tmp_path / "m") as manager:
    assert manager.latest_step() is None


# ------------------------------------------------------------------- errors


def test_never_overwrites(tmp_path: pathlib.Path) -> None:
  checkpoint.save_plain(tmp_path / "c", TREE)
  with pytest.raises(FileExistsError, match="never overwritten"):
    checkpoint.save_plain(tmp_path / "c", jax.tree.map(jnp.zeros_like, TREE))
  trees.assert_same_bits(checkpoint.restore_plain(tmp_path / "c", TREE), TREE)


def test_a_plain_one_is_no_sealed_one(tmp_path: pathlib.Path) -> None:
  checkpoint.save_plain(tmp_path / "c", {"w": np.ones(4, np.float32)})
  key = keyring.HpkePrivateKey.generate("x25519")
  with pytest.raises(
    checkpoint.CheckpointContentError,
    match="not a sealed checkpoint: it is a plain one, which restore_plain",
  ):
    checkpoint.restore(tmp_path / "c", key)
  (tmp_path / "d").mkdir()
  with pytest.raises(
    checkpoint.CheckpointContentError, match="not a sealed checkpoint$"
  ):
    checkpoint.restore(tmp_path / "d", key)
  for step in ("9", "10", "x"):
    (tmp_path / "d" / step).mkdir()
  with pytest.raises(
    checkpoint.CheckpointContentError, match="holds steps, such as 10; name one"
  ):
    checkpoint.restore(tmp_path / "d", key)


def test_missing_checkpoints(tmp_path: pathlib.Path) -> None:
  with pytest.raises(FileNotFoundError, match="no checkpoint at"):
    checkpoint.restore_plain(tmp_path / "none", TREE)
  with checkpoint.Manager(tmp_path / "m") as manager:
    assert manager.latest_step() is None
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
      manager.restore(TREE)
    manager.save(3, TREE)
    manager.wait_until_finished()
    with pytest.raises(FileNotFoundError, match="no step 2 in"):
      manager.restore(TREE, 2)


OTHERS: dict[str, tuple[Any, str]] = {
  "shape": (TREE | {"w": jnp.zeros((3, 3))}, r"leaf w is float32\[2, 3\]"),
  # Orbax would cast: ciphertext words would become numbers.
  "dtype": (TREE | {"w": jnp.zeros((2, 3), jnp.uint32)}, "leaf w is float32"),
  "leaf less": ({"w": TREE["w"]}, "leaf n/b is int8"),
  "leaf more": (TREE | {"x": jnp.zeros(2)}, "leaf x is absent"),
  "structure": ([TREE["w"]], "leaf"),
}


@pytest.mark.parametrize("name", [*OTHERS])
def test_another_tree_is_an_error_without_values(
  name: str, tmp_path: pathlib.Path
) -> None:
  values = {"w": jnp.full((2, 3), 7654.25), "n": {"b": jnp.full(3, 99, "int8")}}
  like, message = OTHERS[name]
  checkpoint.save_plain(tmp_path / "c", values)
  with checkpoint.Manager(tmp_path / "m") as manager:
    manager.save(1, values)
  reads = (
    lambda: checkpoint.restore_plain(tmp_path / "c", like),
    lambda: checkpoint.Manager(tmp_path / "m").restore(like),
  )
  for read in reads:
    with pytest.raises(checkpoint.CheckpointError, match=message) as caught:
      read()
    # The folder of a test may have any number in its name.
    said = str(caught.value).replace(str(tmp_path), "")
    assert "7654" not in said and "99" not in said and "\n" not in said


@pytest.mark.parametrize("tree", [{}, {"f": "text"}, {"f": object()}, None])
def test_trees_of_other_things_are_refused(
  tree: Any, tmp_path: pathlib.Path
) -> None:
  with pytest.raises(ValueError, match="a checkpoint holds"):
    checkpoint.save_plain(tmp_path / "c", tree)
  with (
    checkpoint.Manager(tmp_path / "m") as manager,
    pytest.raises(ValueError, match="a checkpoint holds"),
  ):
    manager.save(1, tree)


# ------------------------------------------------------------------ manager


def test_manager_keeps_the_last_ones_and_resumes(
  tmp_path: pathlib.Path,
) -> None:
  with checkpoint.Manager(tmp_path / "m", keep=2) as manager:
    for step in (1, 2, 3, 4):
      manager.save(step, constant(step))
  names = sorted(p.name for p in (tmp_path / "m").iterdir() if p.is_dir())
  assert names == ["3", "4"]
  with checkpoint.Manager(tmp_path / "m", keep=2) as manager:
    assert manager.latest_step() == 4
    trees.assert_same_bits(manager.restore(constant(0)), constant(4))
    trees.assert_same_bits(manager.restore(constant(0), 3), constant(3))
    manager.save(10, constant(10))
    manager.wait_until_finished()
    assert manager.latest_step() == 10


def test_manager_drops_no_save_silently(tmp_path: pathlib.Path) -> None:
  with checkpoint.Manager(tmp_path / "m") as manager:
    manager.save(2, TREE)
    for step in (1, 2):
      with pytest.raises(ValueError, match=f"step {step} is not after step 2"):
        manager.save(step, TREE)
  with pytest.raises(ValueError, match="closed"):
    manager.save(3, TREE)
