"""Paths that name nothing, and files that are no files or have odd names."""

import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from keyjax import checkpoint, tiers
from keyjax.errors import ArgumentError
from tests.checkpoint.tensor_files import OWNER, hugging_face

TREE = {"w": np.ones(2, np.float32)}
EMPTY_PATHS: dict[str, Callable[[], Any]] = {
  "save": lambda: checkpoint.save("", TREE, OWNER),
  "restore": lambda: checkpoint.restore("", OWNER),
  "save_plain": lambda: checkpoint.save_plain("", TREE),
  "restore_plain": lambda: checkpoint.restore_plain(""),
  "read_weights": lambda: checkpoint.read_weights(""),
  "safetensors": lambda: checkpoint.write_weights("", TREE, "safetensors"),
  "orbax": lambda: checkpoint.write_weights("", TREE, "orbax"),
  "import": lambda: checkpoint.import_weights("", "x", OWNER),
  "export": lambda: checkpoint.export_weights("x", "", OWNER),
  "check_new": lambda: checkpoint.check_new(""),
  "weight_format": lambda: checkpoint.weight_format(""),
  "stored_size": lambda: checkpoint.stored_size(""),
  "Manager": lambda: checkpoint.Manager(""),
  "tiers": lambda: tiers.restore("", OWNER),
}


@pytest.mark.parametrize("name", EMPTY_PATHS)
def test_no_path_is_not_the_current_folder(
  name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  save_file(TREE, tmp_path / "w.safetensors")
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ArgumentError, match="the path is empty"):
    EMPTY_PATHS[name]()
  assert os.listdir() == ["w.safetensors"]


@pytest.mark.parametrize("name", ["w.safetensors", "w.msgpack"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_pipes_and_folders(
  name: str, make: Any, tmp_path: pathlib.Path
) -> None:
  make(tmp_path / name)
  message = "is not a file" if make is os.mkfifo else "it holds no tree"
  with pytest.raises(checkpoint.CheckpointContentError, match=message):
    checkpoint.import_weights(tmp_path / name, tmp_path / "c", OWNER)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_an_index_that_lists_them(make: Any, tmp_path: pathlib.Path) -> None:
  folder = hugging_face(tmp_path / "f")
  file = folder / "model-00002-of-00002.safetensors"
  file.unlink()
  make(file)
  for path in (folder, folder / "model.safetensors.index.json"):
    with pytest.raises(
      checkpoint.CheckpointContentError, match="00002.safetensors is not a file"
    ):
      checkpoint.read_weights(path)


def test_an_index_with_a_mark(tmp_path: pathlib.Path) -> None:
  folder = hugging_face(tmp_path / "f")
  index = folder / "model.safetensors.index.json"
  index.write_bytes(b"\xef\xbb\xbf" + index.read_bytes())
  checkpoint.import_weights(folder, tmp_path / "c", OWNER)
  checkpoint.export_weights(
    tmp_path / "c", tmp_path / "o", OWNER, kind="safetensors"
  )
  for file in folder.iterdir():
    assert (tmp_path / "o" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("name", [b"n\xff.safetensors", b"a\\b.safetensors"])
def test_file_names_that_no_manifest_holds(
  name: bytes, tmp_path: pathlib.Path
) -> None:
  source = tmp_path / os.fsdecode(name)
  save_file(TREE, tmp_path / "w.safetensors")
  shutil.move(tmp_path / "w.safetensors", source)
  assert list(checkpoint.read_weights(source)) == ["w"]
  message = r"the file name '.*safetensors' cannot be sealed: rename the file"
  with pytest.raises(ValueError, match=message) as caught:
    checkpoint.import_weights(source, tmp_path / "c", OWNER)
  str(caught.value).encode()


def test_folders_without_utf8(tmp_path: pathlib.Path) -> None:
  folder = tmp_path / os.fsdecode(b"c\xff")
  for save in (
    lambda: checkpoint.save(folder, TREE, OWNER),
    lambda: checkpoint.save_plain(folder / "x", TREE),
    lambda: checkpoint.Manager(folder),
  ):
    with pytest.raises(
      checkpoint.CheckpointStorageError, match="the name is not UTF-8"
    ) as caught:
      save()
    str(caught.value).encode()
  assert not folder.exists()
  checkpoint.save_plain(tmp_path / "p", TREE)
  shutil.move(tmp_path / "p", folder)
  for read in (checkpoint.restore_plain, checkpoint.read_weights):
    with pytest.raises(
      checkpoint.CheckpointStorageError, match="could not read .* not UTF-8"
    ):
      read(folder)
  shutil.rmtree(folder)
  # Files need no TensorStore.
  checkpoint.write_weights(folder, TREE, "safetensors")
  shutil.move(folder, tmp_path / "w.safetensors")
  assert list(checkpoint.read_weights(tmp_path / "w.safetensors")) == ["w"]


def test_what_a_killed_writer_left(tmp_path: pathlib.Path) -> None:
  left = tmp_path / ".w.safetensors.0123456789abcdef.part"
  left.write_bytes(b"weights")
  os.symlink(tmp_path / "nowhere", tmp_path / "link.safetensors")
  checkpoint.write_weights(tmp_path / "w.safetensors", TREE)
  assert not left.exists()
  with pytest.raises(FileExistsError, match=r"link.safetensors exists; a file"):
    checkpoint.write_weights(tmp_path / "link.safetensors", TREE)
