"""Sealed checkpoints: recipients restore every bit, on any mesh."""

import pathlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.training.train_state import TrainState
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from keyjax import Secret, checkpoint, keyring
from keyjax.checkpoint.format import layout
from tests import trees
from tests.checkpoint import damage

DTYPES = (*trees.DTYPES, "float8_e4m3fn", "float8_e5m2", "int4", "uint16")


@pytest.fixture
def owner() -> keyring.SymmetricKey:
  return keyring.SymmetricKey(Secret.generate())


def tree_of(dtype: str) -> dict[str, Any]:
  tree = trees.params(dtype if dtype in trees.DTYPES else "float32")
  del tree["rng"]
  if dtype not in trees.DTYPES:
    tree["conv"]["kernel"] = tree["conv"]["kernel"].astype(dtype)
  return tree


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_bit_is_restored(
  dtype: str, owner: Any, tmp_path: pathlib.Path
) -> None:
  tree = tree_of(dtype)
  checkpoint.save(tmp_path / "c", tree, owner)
  trees.assert_same_bits(checkpoint.restore(tmp_path / "c", owner), tree)
  trees.assert_same_bits(checkpoint.restore(tmp_path / "c", owner, tree), tree)
  assert checkpoint.verify(tmp_path / "c", owner) == []


def test_a_path_may_contain_parents(
  owner: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  (tmp_path / "here").mkdir()
  monkeypatch.chdir(tmp_path / "here")
  tree = {"w": jnp.arange(4.0)}
  checkpoint.save("../c", tree, owner)
  trees.assert_same_bits(checkpoint.restore("../here/../c", owner), tree)
  checkpoint.reencrypt("../c", "../d", owner, owner)
  assert checkpoint.verify("../d", owner) == [] and (tmp_path / "d").is_dir()
  with checkpoint.Manager("../run", recipients=owner, identities=owner) as run:
    run.save(1, tree)
    run.wait_until_finished()
    trees.assert_same_bits(run.restore(tree), tree)


def test_the_device_seals_and_opens_the_same(
  owner: Any, tmp_path: pathlib.Path
) -> None:
  """Use one size for all arrays: each size takes seconds to compile."""
  mesh = Mesh(np.asarray(jax.devices()[:2]), ("a",))
  sharding = NamedSharding(mesh, P("a"))
  tree = {
    "w": jax.device_put(np.arange(16, dtype=np.float32), sharding),
    "n": 3,
    "b": jax.device_put(np.arange(32) % 3 == 0, jax.devices()[0]),
  }
  for i, (one, other) in enumerate((("device", "host"), ("host", "device"))):
    path = tmp_path / str(i)
    checkpoint.save(path, tree, owner, impl=one)
    found = checkpoint.restore(path, owner, tree, impl=other)
    assert found["n"] == 3 and found["w"].sharding == sharding
    trees.assert_same_bits([found["w"], found["b"]], [tree["w"], tree["b"]])
  sealed = damage.message(path, owner, "b")
  for place in (0, 30, 60, len(sealed) - 1):
    damage.flip(path, sealed, place)
    with pytest.raises(
      checkpoint.CheckpointError, match="leaf b does not open"
    ):
      checkpoint.restore(path, owner, leaves="b", impl="device")
    damage.replace(path, damage.message(path, owner, "b"), sealed)


def test_a_whole_training_state(owner: Any, tmp_path: pathlib.Path) -> None:
  model = nn.Sequential([nn.Dense(4), nn.BatchNorm(use_running_average=True)])
  variables = model.init(jax.random.key(0), jnp.zeros((1, 3)))
  state = TrainState.create(
    apply_fn=model.apply,
    params=variables["params"],
    tx=optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)),
  )
  whole = {"state": state, "stats": variables["batch_stats"]}
  checkpoint.save(tmp_path / "c", whole, owner, step=12)
  found = checkpoint.restore(tmp_path / "c", owner, whole, step=12)
  trees.assert_same_bits(
    jax.tree.map(np.asarray, found), jax.tree.map(np.asarray, whole)
  )
  assert isinstance(found["state"].opt_state[1][0], optax.ScaleByAdamState)
  assert isinstance(found["state"].step, int)


def test_numbers_and_structure_without_a_model(
  owner: Any, tmp_path: pathlib.Path
) -> None:
  tree = {
    "a": [np.float64(0.1), (3, None)],
    "b": {1: True, 2: {"x": 2.5}},
    "empty": {},
    "wide": np.arange(3, dtype=np.int64),
  }
  checkpoint.save(tmp_path / "c", tree, owner)
  found = checkpoint.restore(tmp_path / "c", owner)
  assert jax.tree.structure(found) == jax.tree.structure(tree)
  assert found["a"][1] == (3, None) and found["b"][1] is True
  assert found["wide"].dtype == np.int64 and found["a"][0] == np.float64(0.1)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Any:
  owner = keyring.SymmetricKey(Secret.generate())
  mesh = Mesh(np.asarray(jax.devices()).reshape(4, 2), ("a", "b"))
  x = np.random.default_rng(0).normal(size=(64, 48)).astype(np.float32)
  specs = {"rows": P("a"), "columns": P(None, "b"), "both": P("b", "a")}
  specs["whole"] = P()
  tree = {
    n: jax.device_put(x, NamedSharding(mesh, s)) for n, s in specs.items()
  }
  path = tmp_path_factory.mktemp("sharded") / "c"
  checkpoint.save(path, tree, owner)
  return path, owner, x


SHAPES = [
  ((8, 1), "host"),
  ((2, 2), "host"),
  ((4, 1), "host"),
  pytest.param((2, 2), "device", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("shape", "impl"), SHAPES)
def test_restores_to_another_mesh(
  shape: tuple[int, int], impl: Any, sharded: Any
) -> None:
  path, owner, x = sharded
  devices = np.asarray(jax.devices()[: shape[0] * shape[1]]).reshape(shape)
  mesh = Mesh(devices, ("a", "b"))
  specs = {"rows": P("b", "a"), "columns": P(("a", "b")), "both": P(None, "b")}
  like = {
    name: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=NamedSharding(mesh, spec)
    )
    for name, spec in specs.items()
  }
  found = checkpoint.restore(path, owner, like, leaves=list(like), impl=impl)
  for name, got in found.items():
    assert got.sharding == like[name].sharding
    np.testing.assert_array_equal(np.asarray(got), x)


def test_some_leaves(sharded: Any) -> None:
  path, owner, x = sharded
  found = checkpoint.restore(path, owner, leaves="r.*|whole")
  assert sorted(found) == ["rows", "whole"]
  np.testing.assert_array_equal(found["rows"], x)
  with pytest.raises(ValueError, match="no leaf typo in"):
    checkpoint.restore(path, owner, leaves=["typo"])
  with pytest.raises(ValueError, match="no leaf matches .typo. with"):
    checkpoint.restore(path, owner, leaves="typo")


def test_large_leaves_are_split_and_slices_read_alone(
  owner: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr(layout, "MAX_PART_BYTES", 1 << 16)
  monkeypatch.setattr(layout, "SEGMENT_BYTES", 1 << 22)
  x = np.random.default_rng(0).normal(size=(3000, 500)).astype(np.float32)
  tree = {"big": x, "flat": x.reshape(1, 1, -1), "scalar": np.float32(3)}
  checkpoint.save(tmp_path / "c", tree, owner)
  trees.assert_same_bits(
    checkpoint.restore(tmp_path / "c", owner),
    tree | {"scalar": np.asarray(3, np.float32)},
  )
  mesh = Mesh(np.asarray(jax.devices()[:4]), ("a",))
  for spec in (P("a"), P(None, "a")):
    sharding = NamedSharding(mesh, spec)
    like = {"big": jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)}
    found = checkpoint.restore(tmp_path / "c", owner, like, leaves="big")
    np.testing.assert_array_equal(np.asarray(found["big"]), x)


def test_metadata_step_and_inspection(
  owner: Any, tmp_path: pathlib.Path
) -> None:
  tree = {"secret_name": np.ones((7, 3))}
  path = tmp_path / "c"
  checkpoint.save(path, tree, owner, step=41, metadata={"run": "hidden-run"})
  assert checkpoint.read_metadata(path, owner) == {"run": "hidden-run"}
  public = checkpoint.inspect(path)
  assert public["envelope"]["recipients"] == [owner.id]
  assert set(public) == {"format", "version", "bytes", "envelope"}
  known = checkpoint.inspect(path, owner)
  assert known["step"] == 41 and not known["signed"]
  assert known["leaves"] == [
    {
      "path": "secret_name",
      "dtype": "float64",
      "shape": [7, 3],
      "bytes": 168,
      "parts": 1,
    }
  ]
  with pytest.raises(
    checkpoint.CheckpointError, match="step 41, not of step 4"
  ):
    checkpoint.restore(path, owner, step=4)
  for bad in (-1, True, 1.5):
    with pytest.raises(ValueError, match="a whole number"):
      checkpoint.save(tmp_path / "d", tree, owner, step=bad)  # type: ignore[arg-type]
  with pytest.raises(ValueError, match="metadata"):
    checkpoint.save(tmp_path / "d", tree, owner, metadata={"x": object()})


def test_without_a_key_only_a_padded_size_is_visible(
  owner: Any, tmp_path: pathlib.Path
) -> None:
  """Other names, shapes, dtypes and metadata are not visible on disk."""
  one = {"alpha_name": np.full((40, 25), 3, np.float32)}
  many = {f"beta_{i}": np.zeros(25, np.float16) for i in range(80)}
  sizes = []
  for i, tree in enumerate((one, many)):
    path = tmp_path / str(i)
    checkpoint.save(path, tree, owner, step=i, metadata={"note": "gamma" * i})
    files = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    for data in files.values():
      # Words of five bytes or more: ciphertext holds none of them by chance.
      for word in (b"alpha", b"beta_", b"gamma", b"float", b"40,25", b"40, 25"):
        assert word not in data
    stored = path / "sealed" / "_METADATA"
    names = checkpoint.inspect(path)
    assert "alpha" not in str(names) and stored.exists()
    sizes.append(names["bytes"])
  assert abs(sizes[0] - sizes[1]) < 0.3 * max(sizes)


def test_no_file_names_its_path(owner: Any, tmp_path: pathlib.Path) -> None:
  place = tmp_path / "customer"
  tree = tree_of("bfloat16")
  checkpoint.save(place / "sealed", tree, owner)
  checkpoint.reencrypt(place / "sealed", place / "again", owner, owner)
  checkpoint.save_plain(place / "plain", tree)
  checkpoint.export_weights(place / "sealed", place / "opened", owner)
  for name, recipients in (("run", owner), ("plain-run", None)):
    with checkpoint.Manager(place / name, recipients=recipients) as manager:
      manager.save(1, tree)
  files = [p for p in place.rglob("*") if p.is_file()]
  assert sum(p.name == "commit_success.txt" for p in files) >= 6
  for file in files:
    data = file.read_bytes()
    assert b"customer" not in data and bytes(tmp_path) not in data, file


# ----------------------------------------------------------------- mistakes


def test_mistakes_are_reported(owner: Any, tmp_path: pathlib.Path) -> None:
  tree = {"w": np.ones(3, np.float32)}
  path = tmp_path / "c"
  checkpoint.save(path, tree, owner)
  with pytest.raises(FileExistsError, match="never overwritten"):
    checkpoint.save(path, tree, owner)
  with pytest.raises(FileNotFoundError, match="no checkpoint at"):
    checkpoint.restore(tmp_path / "none", owner)
  bad: list[tuple[Any, str]] = [
    ({"w": np.ones(4, np.float32)}, r"w is float32\[3\] there, float32\[4\]"),
    ({"w": np.ones(3, np.int32)}, r"float32\[3\] there, int32\[3\]"),
    ({"v": np.ones(3, np.float32)}, "leaf v is absent"),
  ]
  for like, message in bad:
    with pytest.raises(checkpoint.CheckpointError, match=message):
      checkpoint.restore(path, owner, like)
  refused: list[tuple[Any, str]] = [
    ({"s": Secret.generate()}, "holds no keys"),
    ({"t": "text"}, "holds arrays"),
    ({}, "this tree is empty"),
    ({"a/b": np.ones(1), "a": {"b": np.ones(1)}}, "two leaves have the path"),
    ({"n": 2**70}, "does not fit into 64 bits"),
    ({"d": np.array(["x"])}, "leaf d is of str"),
  ]
  for tree, message in refused:
    with pytest.raises(ValueError, match=message):
      checkpoint.save(tmp_path / "d", tree, owner)
  with pytest.raises(keyring.KeyringError, match="at least one recipient"):
    checkpoint.save(tmp_path / "d", {"w": np.ones(3)}, [])
  assert not (tmp_path / "d").exists()
  checkpoint.save_plain(tmp_path / "p", {"w": np.ones(3)})
  with pytest.raises(checkpoint.CheckpointError, match="not a sealed"):
    checkpoint.restore(tmp_path / "p", owner)


def test_manager_keeps_and_resumes_sealed(
  owner: Any, tmp_path: pathlib.Path
) -> None:
  def state(step: int) -> Any:
    return {"w": jnp.full((64, 3), step, jnp.float32), "n": np.int32(step)}

  people = {"recipients": owner, "identities": owner}
  with checkpoint.Manager(tmp_path / "m", keep=2, **people) as manager:
    for step in (1, 2, 3):
      manager.save(step, state(step))
  with checkpoint.Manager(tmp_path / "m", keep=2, **people) as manager:
    assert manager.latest_step() == 3
    found = manager.restore(state(0))
    trees.assert_same_bits(found["w"], state(3)["w"])
    with pytest.raises(FileNotFoundError, match="no step 1"):
      manager.restore(state(0), 1)
    # A folder of another step under this name is not taken for it.
    (tmp_path / "m/2").rename(tmp_path / "m/5")
  with (
    checkpoint.Manager(tmp_path / "m", keep=2, **people) as manager,
    pytest.raises(checkpoint.CheckpointError, match="of step 2, not of step 5"),
  ):
    manager.restore(state(0))
  for file in (tmp_path / "m").rglob("*"):
    if file.is_file():
      assert np.full(64, 3, np.float32).tobytes() not in file.read_bytes()
