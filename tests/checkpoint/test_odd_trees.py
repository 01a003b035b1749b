"""Trees that are unusual and legal: nothing comes back changed."""

import collections
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from keyjax import Secret, checkpoint, keyring
from keyjax.aes import prng
from tests import trees

OWNER = keyring.SymmetricKey(Secret(b"T" * 32))
Pair = collections.namedtuple("Pair", "first second")
KINDS = [
  *"int2 uint2 int4 uint4 float4_e2m1fn float8_e3m4 float8_e4m3".split(),
  *"float8_e4m3b11fnuz float8_e4m3fn float8_e4m3fnuz float8_e5m2".split(),
  *"float8_e5m2fnuz float8_e8m0fnu bfloat16".split(),
]
# As NumPy arrays, all of which JAX would narrow without x64, or not have.
WIDE = ["int64", "uint64", "float64", "complex128"]
EVERY_DTYPE = {
  **{n: np.array([1, 0, 1], getattr(ml_dtypes, n)) for n in KINDS},
  **{n: np.array([1, 0, 1], n) for n in WIDE},
  "int64_max": np.array([2**63 - 1, -(2**63)]),
  "uint64_max": np.array([2**64 - 1], np.uint64),
  "complex64": np.array([1 + 2j], np.complex64),
  "bool": np.array([True, False]),
  "big_endian": np.array([1, 2], ">i4"),
  "scalar": np.zeros((), np.float32),
  "generic": np.float64(0.1),
  "jax_int4": jnp.array([1, -8, 7], jnp.int4),
  "jax_uint4": jnp.array([1, 15], jnp.uint4),
  "jax_bool": jnp.array(True),
}
EVERY_STRUCTURE = {
  "mlp/~/linear_0": {"w": jnp.ones(2), "a.b": jnp.zeros(2)},
  "mlp/~/linear_1": {"w": jnp.zeros(2)},
  "größe/日本": {"": np.float32([3])},
  "tokens": 3_000_000_000,
  "rate": 0.1,
  "flag": True,
  "none": None,
  "empty": {"dict": {}, "list": [], "tuple": ()},
  "list": [np.ones(1), (np.zeros(2), None)],
  "numbers": {2: np.float32([2]), 10: np.float32([10])},
  "zero_size": {"a": jnp.zeros((8, 0)), "b": np.zeros((0, 8), np.int64)},
}
COLLIDING = {"a.b": np.float32([1]), "a": {"b": np.float32([2])}}


def sealed(path: pathlib.Path, tree: Any) -> Callable[..., Any]:
  checkpoint.save(path, tree, OWNER)
  return lambda like=None: checkpoint.restore(path, OWNER, like)


def plain(path: pathlib.Path, tree: Any) -> Callable[..., Any]:
  checkpoint.save_plain(path, tree)
  return lambda like=None: checkpoint.restore_plain(path, like)


def exported(path: pathlib.Path, tree: Any) -> Callable[..., Any]:
  """Seal, write as a plain checkpoint, and seal again."""
  checkpoint.save(f"{path}-1", tree, OWNER)
  checkpoint.export_weights(f"{path}-1", f"{path}-2", OWNER)
  checkpoint.import_weights(f"{path}-2", path, OWNER)
  return lambda like=None: checkpoint.restore(path, OWNER, like)


WAYS = [sealed, plain, exported]


def assert_same(found: Any, tree: Any) -> None:
  """Compare structure, keys, dtypes, shapes and bytes of leaves."""
  assert jax.tree.structure(found) == jax.tree.structure(tree)
  for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(tree), strict=True):
    a, b = np.asarray(x), np.asarray(y)
    b = b.astype(b.dtype.newbyteorder("=")) if b.dtype.byteorder == ">" else b
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("way", WAYS)
def test_every_dtype(way: Any, tmp_path: pathlib.Path) -> None:
  read = way(tmp_path / "c", EVERY_DTYPE)
  assert_same(read(), EVERY_DTYPE)
  on_host = jax.tree.map(np.asarray, EVERY_DTYPE)
  on_host["big_endian"] = on_host["big_endian"].astype(np.int32)
  found = read(on_host)
  assert_same(found, EVERY_DTYPE)
  assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(found))


@pytest.mark.parametrize("way", WAYS)
def test_every_structure(way: Any, tmp_path: pathlib.Path) -> None:
  read = way(tmp_path / "c", EVERY_STRUCTURE)
  found = read()
  assert_same(found, EVERY_STRUCTURE)
  if way is not exported:
    assert found["tokens"] == 3_000_000_000 and type(found["tokens"]) is int
    assert found["flag"] is True and found["rate"] == 0.1
  assert_same(read(EVERY_STRUCTURE), EVERY_STRUCTURE)


@pytest.mark.parametrize("way", WAYS)
def test_named_tuples_are_restored_by_fields(
  way: Any, tmp_path: pathlib.Path
) -> None:
  tree = {"pair": Pair(np.float32([1]), jnp.zeros((0, 2)))}
  read = way(tmp_path / "c", tree)
  assert_same(read(tree), tree)
  assert_same(read(), {"pair": tree["pair"]._asdict()})


@pytest.mark.parametrize("way", [sealed, plain, exported])
def test_names_that_would_be_one(way: Any, tmp_path: pathlib.Path) -> None:
  read = way(tmp_path / "c", COLLIDING)
  assert_same(read(), COLLIDING)
  assert_same(read(COLLIDING), COLLIDING)


def test_a_manager_keeps_them(tmp_path: pathlib.Path) -> None:
  tree = {
    "dtypes": EVERY_DTYPE,
    "structure": EVERY_STRUCTURE,
    "names": COLLIDING,
    "rng": jax.random.key(3),
  }
  tree["dtypes"] = {k: v for k, v in EVERY_DTYPE.items() if k != "big_endian"}
  for recipients in (None, OWNER):
    folder = tmp_path / str(recipients is None)
    with checkpoint.Manager(
      folder, recipients=recipients, identities=recipients or ()
    ) as manager:
      manager.save(1, tree)
      manager.wait_until_finished()
      found = manager.restore(tree)
    assert_same_keys(found.pop("rng"), tree["rng"])
    assert_same(found, {k: v for k, v in tree.items() if k != "rng"})
  found = checkpoint.restore_plain(tmp_path / "True" / "1")
  assert_same_keys(found["rng"], tree["rng"])
  assert_same(found["structure"], EVERY_STRUCTURE)


@pytest.mark.parametrize("way", [sealed, plain])
def test_wide_leaves_with_and_without_x64(
  way: Any, tmp_path: pathlib.Path
) -> None:
  tree = {"n": np.array([3_000_000_000]), "f": np.array(0.1)}
  read = way(tmp_path / "c", tree)
  shapes = {k: jax.ShapeDtypeStruct(x.shape, x.dtype) for k, x in tree.items()}
  assert_same(read(shapes), tree)
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  placed = {
    k: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device)
    for k, x in tree.items()
  }
  with pytest.raises(ValueError, match="only with jax_enable_x64"):
    read(placed)
  with jax.enable_x64(True):
    found = read(placed)
    assert_same(found, tree)
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(found))
    wide = {"w": jnp.array([2**40, 1])}
    assert wide["w"].dtype == np.int64
    again = way(tmp_path / "x64", wide)
    assert_same(again(), wide)
    assert_same(again(wide), wide)
  assert_same(again(), wide)  # As a NumPy array.


@pytest.mark.parametrize("way", [sealed, plain])
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_shapes_with_shardings(
  way: Any, axis_type: AxisType, tmp_path: pathlib.Path
) -> None:
  tree = {
    "w": np.arange(16, dtype=np.float32).reshape(8, 2),
    "n": jnp.arange(8, dtype=jnp.uint4),
    "z": jnp.zeros((8, 0)),
    "rng": jax.random.split(jax.random.key(5), 8),
  }
  read = way(tmp_path / "c", tree)
  mesh = Mesh(np.array(jax.devices()[:4]), ("a",), axis_types=(axis_type,))
  rows = NamedSharding(mesh, P("a"))
  like = {
    k: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=rows)
    for k, x in tree.items()
  }
  found = read(like)
  for name, x in found.items():
    assert x.sharding.is_equivalent_to(rows, x.ndim), name
  assert_same_keys(found.pop("rng"), tree.pop("rng"))
  assert_same(found, tree)


# ------------------------------------------------------- another topology


def test_shapes_without_shardings(tmp_path: pathlib.Path) -> None:
  """Restore what eight devices saved on one."""
  value = np.arange(128, dtype=np.float32).reshape(16, 8)
  mesh = Mesh(np.array(jax.devices()), ("a",))
  tree = {"w": jax.device_put(value, NamedSharding(mesh, P("a")))}
  checkpoint.save_plain(tmp_path / "p", tree)
  with checkpoint.Manager(tmp_path / "m") as manager:
    manager.save(1, tree)
  # What another machine would find: devices that it does not have.
  for file in tmp_path.rglob("_sharding"):
    file.write_text(file.read_text().replace("TFRT_CPU_", "OTHER_"))
  likes = [jax.eval_shape(lambda: {"w": jnp.zeros((16, 8))}), {"w": value}]
  for like in likes:
    assert_same(checkpoint.restore_plain(tmp_path / "p", like), tree)
    with checkpoint.Manager(tmp_path / "m") as manager:
      found = manager.restore(like)["w"]
      assert_same(found, tree["w"])
      assert isinstance(found, np.ndarray) == (like is likes[1])


# -------------------------------------------------------------- PRNG keys


def assert_same_keys(found: Any, keys: Any) -> None:
  assert found.dtype == keys.dtype and found.shape == keys.shape
  np.testing.assert_array_equal(
    jax.random.key_data(found), jax.random.key_data(keys)
  )


@pytest.mark.parametrize("way", WAYS)
def test_prng_keys(way: Any, tmp_path: pathlib.Path) -> None:
  tree = {
    "one": jax.random.key(1),
    "many": jax.random.split(jax.random.key(2), (2, 3)),
    "none": jax.random.split(jax.random.key(2), (0,)),
    "rbg": jax.random.key(3, impl="rbg"),
    "legacy": jax.random.PRNGKey(4),
  }
  read = way(tmp_path / "c", tree)
  for found in (read(), read(jax.eval_shape(lambda: tree)), read(tree)):
    for name, keys in tree.items():
      assert_same_keys(found[name], keys) if name != "legacy" else (
        assert_same(found[name], keys)
      )
  other = tree | {"one": jax.random.key(1, impl="rbg")}
  with pytest.raises(checkpoint.CheckpointError, match=r"one is key<fry>\[\]"):
    read(other)
  words = tree | {"one": jax.random.key_data(tree["one"])}
  with pytest.raises(checkpoint.CheckpointError, match=r"uint32\[2\] was"):
    read(words)


def test_own_prng_keys_are_sealed(tmp_path: pathlib.Path) -> None:
  tree = {"aes": jax.random.key(7, impl=prng.impl)}
  assert_same_keys(sealed(tmp_path / "c", tree)()["aes"], tree["aes"])


def make_dropout() -> nnx.Dropout:
  return nnx.Dropout(0.5, rngs=nnx.Rngs(0))


def make_optimizer() -> nnx.Optimizer:
  model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
  return nnx.Optimizer(model, optax.adam(0.1), wrt=nnx.Param)


@pytest.mark.parametrize("make", [make_dropout, make_optimizer])
def test_states_of_nnx(make: Any, tmp_path: pathlib.Path) -> None:
  _, state = nnx.split(make())
  _, shapes = nnx.split(nnx.eval_shape(make))
  for way in (sealed, plain):
    found = way(tmp_path / way.__name__, state)(shapes)
    assert isinstance(found, nnx.State)
    for x, y in zip(*map(jax.tree.leaves, (found, state)), strict=True):
      trees.assert_same_bits([x], [y])


@pytest.mark.parametrize("name", ["w.safetensors", "w.msgpack"])
def test_files_without_prng_keys_refuse_them(
  name: str, tmp_path: pathlib.Path
) -> None:
  tree = {"rng": jax.random.key(1), "w": np.ones(2, np.float32)}
  checkpoint.save(tmp_path / "c", tree, OWNER)
  for write in (
    lambda: checkpoint.export_weights(tmp_path / "c", tmp_path / name, OWNER),
    lambda: checkpoint.write_weights(tmp_path / name, tree),
  ):
    with pytest.raises(ValueError, match="leaf rng is a PRNG key"):
      write()
  checkpoint.export_weights(
    tmp_path / "c", tmp_path / name, OWNER, leaves=["w"]
  )
  assert list(checkpoint.read_weights(tmp_path / name)) == ["w"]


def test_what_cannot_be_right_is_refused(tmp_path: pathlib.Path) -> None:
  def save(tree: Any) -> None:
    checkpoint.save_plain(tmp_path / "p", tree)

  for tree, message in (
    ({"n": 2**70}, "leaf n does not fit into 64 bits"),
    ({"d": np.array(["x"])}, "leaf d is of str"),
    ({"o": np.array([None])}, "leaf o is of object"),
  ):
    with pytest.raises(ValueError, match=message):
      save(tree)
  assert not (tmp_path / "p").exists()
