"""Folders of other programs: the only tree is read, or all are named."""

import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from orbax.checkpoint.experimental import v1
from safetensors.numpy import save_file

from keyjax import Secret, checkpoint, keyring
from tests import trees

OWNER = keyring.SymmetricKey(Secret(b"T" * 32))
TREE = {"params": {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  top = tmp_path_factory.mktemp("folders")
  with ocp.CheckpointManager(top / "run") as manager:
    manager.save(1000, args=ocp.args.StandardSave(TREE))
    manager.wait_until_finished()
  v1.save(top / "v1", TREE)
  (top / "hf").mkdir()
  save_file({"w": np.ones(3)}, top / "hf" / "model.safetensors")
  (top / "hf" / "config.json").write_text("{}")
  with checkpoint.Manager(top / "own") as own:
    own.save(1, TREE)
  return top


@pytest.mark.parametrize(
  "name", ["run", "run/1000", "run/1000/default", "v1", "v1/state", "own"]
)
def test_the_only_tree_is_read(name: str, folders: pathlib.Path) -> None:
  trees.assert_same_bits(checkpoint.read_weights(folders / name), TREE)
  trees.assert_same_bits(checkpoint.restore_plain(folders / name, TREE), TREE)


def test_a_folder_with_one_file(
  folders: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  assert checkpoint.import_weights(folders / "hf", tmp_path / "c", OWNER) == 1
  target = tmp_path / "model.safetensors"
  checkpoint.export_weights(tmp_path / "c", target, OWNER)
  source = folders / "hf" / "model.safetensors"
  assert target.read_bytes() == source.read_bytes()


def test_several_trees_are_named(
  folders: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  with ocp.CheckpointManager(tmp_path / "run") as manager:
    for step in (5, 10):
      manager.save(step, args=ocp.args.StandardSave(TREE))
  names = "2 trees; name the one to read: 10/default, 5/default"
  for name in ("a.safetensors", "b.safetensors"):
    save_file({"w": np.ones(1)}, tmp_path / name)
  read: Any
  for read in (checkpoint.read_weights, checkpoint.restore_plain):
    with pytest.raises(ValueError, match=names) as caught:
      read(tmp_path / "run")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"4 trees.* a\.safetensors, b\.safe"):
      read(tmp_path)


def test_sealed_folders_are_named(tmp_path: pathlib.Path) -> None:
  checkpoint.save(tmp_path / "c", TREE, OWNER)
  run = checkpoint.Manager(tmp_path / "m", recipients=OWNER)
  with run as manager:
    manager.save(1, TREE)
  read: Any
  for read in (checkpoint.read_weights, checkpoint.restore_plain):
    with pytest.raises(checkpoint.CheckpointError, match="it is sealed and"):
      read(tmp_path / "c")
    with pytest.raises(
      ValueError, match=r"holds a sealed tree.*: 1 \(sealed\)"
    ):
      read(tmp_path / "m")


def test_folders_without_a_tree(tmp_path: pathlib.Path) -> None:
  (tmp_path / "empty" / "inner").mkdir(parents=True)
  (tmp_path / "empty" / ".hidden").mkdir()
  save_file({"w": np.ones(1)}, tmp_path / "empty/.hidden/a.safetensors")
  read: Any
  for read in (checkpoint.read_weights, checkpoint.restore_plain):
    with pytest.raises(checkpoint.CheckpointError, match="holds no tree in"):
      read(tmp_path / "empty")


def test_text_is_named(tmp_path: pathlib.Path) -> None:
  with ocp.PyTreeCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / "c", {"w": jnp.ones(2), "name": "resnet"})
  read: Any
  for read in (checkpoint.read_weights, checkpoint.restore_plain):
    with pytest.raises(checkpoint.CheckpointError, match="name is a string"):
      read(tmp_path / "c")


def test_files_that_restore_plain_does_not_read(folders: pathlib.Path) -> None:
  for name in ("hf", "hf/model.safetensors"):
    with pytest.raises(ValueError, match="use read_weights"):
      checkpoint.restore_plain(folders / name)


RECORDS = [
  {"version": 2},
  {"version": 1},
  {"version": 1, "by_number": False, "replaced": [], "tree": 3},
  {
    "version": 1,
    "by_number": False,
    "replaced": [[0, "float32", [10**9], ""]],
    "tree": {"dict": [["w", 0]]},
  },
  {
    "version": 1,
    "by_number": False,
    "replaced": [[0, "object", [2], ""]],
    "tree": {"dict": [["w", 0]]},
  },
  {
    "version": 1,
    "by_number": True,
    "replaced": [],
    "tree": {"dict": [["w", 0]]},
  },
  [],
  "x",
]


@pytest.mark.parametrize("record", RECORDS)
def test_malformed_records_are_refused(
  record: Any, tmp_path: pathlib.Path
) -> None:
  args = ocp.args.StandardSave(
    {"w": np.ones(2)}, custom_metadata={"keyjax": record}
  )
  with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
    checkpointer.save(tmp_path / "c", args=args)
  with pytest.raises(checkpoint.CheckpointError, match="KeyJAX record"):
    checkpoint.restore_plain(tmp_path / "c")
