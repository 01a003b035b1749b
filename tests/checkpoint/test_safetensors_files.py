"""Safetensors files come back byte for byte, or are refused in one line."""

import os
import pathlib
import struct
import subprocess
import sys
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from keyjax import checkpoint
from keyjax.checkpoint.opened import open_checkpoint
from keyjax.checkpoint.weights import safetensors_header
from tests.checkpoint.tensor_files import (
  OWNER,
  hugging_face,
  one,
  sealed_and_exported,
  write_raw,
)

FLOAT8 = {
  "F8_E4M3": "float8_e4m3fn",
  "F8_E5M2": "float8_e5m2",
  "F8_E8M0": "float8_e8m0fnu",
  "F8_E4M3FNUZ": "float8_e4m3fnuz",
  "F8_E5M2FNUZ": "float8_e5m2fnuz",
}
EVERY_DTYPE = {
  **{
    name: np.array([1, 0], getattr(ml_dtypes, name)) for name in FLOAT8.values()
  },
  **{
    name: np.array([1, 0], name)
    for name in (
      *"bool int8 uint8 int16 uint16 int32 uint32 int64 uint64".split(),
      *"float16 float32 float64 complex64".split(),
    )
  },
  "bfloat16": np.array([1, 0], ml_dtypes.bfloat16),
}
NAMES = {
  "a/b": np.ones((2, 3), np.float32),
  "a.b": np.zeros(2, np.float32),
  "größe/日本": np.zeros((), np.int8),
  "": np.ones(1, np.float16),
  'quote"\\\n': np.ones(1, np.uint8),
  "zero": np.zeros((8, 0), np.float32),
  "zero_first": np.zeros((0, 8), np.uint64),
}


# ------------------------------------------------------------ byte for byte


@pytest.mark.parametrize(
  ("tree", "metadata"),
  [
    (EVERY_DTYPE, None),
    (NAMES, {"format": "pt", "note": 'é"\n\u0001', "": ""}),
    ({"w": np.ones(2, np.float32)}, {}),
  ],
)
def test_files_of_the_library(
  tree: Any, metadata: Any, tmp_path: pathlib.Path
) -> None:
  source = tmp_path / "model.safetensors"
  save_file(tree, source, metadata)
  target = sealed_and_exported(source, tmp_path / "opened.safetensors")
  assert target.read_bytes() == source.read_bytes()
  with safe_open(target, "np") as opened:
    assert opened.metadata() == metadata
  found = checkpoint.read_weights(source)
  assert sorted(found) == sorted(tree)
  for name, x in tree.items():
    assert (found[name].dtype, found[name].shape) == (x.dtype, x.shape)
    assert found[name].tobytes() == x.tobytes()
  # Its header does not have to be stored.
  manifest = open_checkpoint(tmp_path / "sealed", OWNER).manifest
  assert manifest.origin and manifest.origin.files[0].header is None


def test_files_of_other_writers(tmp_path: pathlib.Path) -> None:
  """Keep another order, spaces and padding, and names with escapes."""
  header = {
    "z": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
    "__metadata__": {"b": "1", "a": "2"},
    "a\u00e9": {"data_offsets": [3, 11], "shape": [1, 2], "dtype": "F32"},
    "b": {"dtype": "BOOL", "shape": [1], "data_offsets": [11, 12]},
  }
  source = tmp_path / "a.safetensors"
  write_raw(source, header, bytes(range(11)) + b"\x02", padding=21)
  target = sealed_and_exported(source, tmp_path / "b.safetensors")
  assert target.read_bytes() == source.read_bytes()
  assert checkpoint.verify(tmp_path / "sealed", OWNER) == []
  # The signature, a new data key and a rewrap leave all of it.
  checkpoint.reencrypt(tmp_path / "sealed", tmp_path / "new", OWNER, OWNER)
  checkpoint.export_weights(tmp_path / "new", tmp_path / "c.safetensors", OWNER)
  assert (tmp_path / "c.safetensors").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("code", FLOAT8)
def test_float8(code: str, tmp_path: pathlib.Path) -> None:
  source = write_raw(tmp_path / "w.safetensors", one(code, [2], 2), b"\x38\x40")
  checkpoint.import_weights(source, tmp_path / "c", OWNER)
  found = checkpoint.restore(tmp_path / "c", OWNER)["w"]
  assert found.dtype == FLOAT8[code] and found.tobytes() == b"\x38\x40"


def test_nothing_of_it_is_in_the_clear(tmp_path: pathlib.Path) -> None:
  source = tmp_path / "model.safetensors"
  save_file({"secretname": np.ones(2)}, source, {"secretnote": "secrettext"})
  checkpoint.import_weights(source, tmp_path / "c", OWNER, metadata={"a": 1})
  assert checkpoint.read_metadata(tmp_path / "c", OWNER) == {"a": 1}
  for file in filter(pathlib.Path.is_file, (tmp_path / "c").rglob("*")):
    assert b"secret" not in file.read_bytes()
  found = checkpoint.inspect(tmp_path / "c", OWNER)
  assert found["origin"] == [
    {"metadata": {"secretnote": "secrettext"}, "name": "model.safetensors"}
  ]
  assert "origin" not in checkpoint.inspect(tmp_path / "c")


def test_some_leaves_and_another_metadata(tmp_path: pathlib.Path) -> None:
  source = tmp_path / "model.safetensors"
  save_file(NAMES, source, {"format": "pt"})
  checkpoint.import_weights(source, tmp_path / "c", OWNER)
  some = tmp_path / "some.safetensors"
  checkpoint.export_weights(tmp_path / "c", some, OWNER, leaves=["a/b", "zero"])
  save_file({k: NAMES[k] for k in ("a/b", "zero")}, source, {"format": "pt"})
  assert some.read_bytes() == source.read_bytes()
  other = tmp_path / "other.safetensors"
  checkpoint.export_weights(
    tmp_path / "c", other, OWNER, metadata={"format": "flax"}
  )
  with safe_open(other, "np") as opened:
    assert opened.metadata() == {"format": "flax"}


def test_trees_become_what_the_library_writes(tmp_path: pathlib.Path) -> None:
  tree = {
    "mlp/~/linear": {"w": jnp.ones((2, 3)), "b": np.float64(2)},
    "layers": [np.arange(3), (np.zeros(2, ">i4"), True)],
    "step": 3_000_000_000,
  }
  flat = {
    "mlp/~/linear.w": np.ones((2, 3), np.float32),
    "mlp/~/linear.b": np.array(2.0),
    "layers.0": np.arange(3),
    "layers.1.0": np.zeros(2, np.int32),
    "layers.1.1": np.array(True),
    "step": np.array(3_000_000_000),
  }
  save_file(flat, tmp_path / "right.safetensors", {"format": "np"})
  right = (tmp_path / "right.safetensors").read_bytes()
  metadata = {"format": "np"}
  written = tmp_path / "written.safetensors"
  checkpoint.write_weights(written, tree, metadata=metadata)
  assert written.read_bytes() == right and written.stat().st_mode & 0o077 == 0
  checkpoint.save(tmp_path / "c", tree, OWNER)
  exported = tmp_path / "exported.safetensors"
  checkpoint.export_weights(tmp_path / "c", exported, OWNER, metadata=metadata)
  assert exported.read_bytes() == right


# ----------------------------------------------------------- several files


def contents(folder: pathlib.Path) -> dict[str, bytes]:
  return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("name", ["", "model.safetensors.index.json"])
def test_several_files_and_an_index(name: str, tmp_path: pathlib.Path) -> None:
  source = hugging_face(tmp_path / "hf")
  sealed = tmp_path / "c"
  assert checkpoint.import_weights(source / name, sealed, OWNER) == 3
  assert sorted(checkpoint.restore(sealed, OWNER)) == ["a/x", "b", "c"]
  checkpoint.export_weights(sealed, tmp_path / "o", OWNER, kind="safetensors")
  assert contents(tmp_path / "o") == contents(source)
  assert (tmp_path / "o").stat().st_mode & 0o777 == 0o700
  assert {f.stat().st_mode & 0o777 for f in (tmp_path / "o").iterdir()} == {
    0o600
  }
  checkpoint.export_weights(sealed, tmp_path / "one.safetensors", OWNER)
  assert len(load_file(tmp_path / "one.safetensors")) == 3
  with pytest.raises(FileExistsError):
    checkpoint.export_weights(sealed, tmp_path / "o", OWNER, kind="safetensors")


def test_shards_are_written(tmp_path: pathlib.Path) -> None:
  tree = {k: np.full(4, i, np.float32) for i, k in enumerate("abcde")}
  checkpoint.save(tmp_path / "c", tree, OWNER)
  for name, write in {
    "export": lambda target: checkpoint.export_weights(
      tmp_path / "c", target, OWNER, kind="safetensors", shard_bytes=32
    ),
    "write": lambda target: checkpoint.write_weights(
      target, tree, "safetensors", shard_bytes=32
    ),
  }.items():
    write(tmp_path / name)
    assert sorted(file.name for file in (tmp_path / name).iterdir()) == [
      *(f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)),
      "model.safetensors.index.json",
    ]
    found = checkpoint.read_weights(tmp_path / name)
    assert list(found) == [*"abcde"] and found["e"][0] == 4
  with pytest.raises(ValueError, match="no metadata and no shards"):
    checkpoint.write_weights(tmp_path / "x", tree, "orbax", shard_bytes=1)
  with pytest.raises(ValueError, match="name the folder"):
    checkpoint.write_weights(
      tmp_path / "x.safetensors.index.json", tree, shard_bytes=1
    )


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"b": "model-00001-of-00002.safetensors"},
      "tensor b is not in model-00001",
    ),
    (
      {"d": "model-00002-of-00002.safetensors"},
      "tensor d is not in model-00002",
    ),
    ({"d": "model-00003-of-00003.safetensors"}, "which is missing"),
    ({"d": "../hf/a.safetensors"}, "not a safetensors file next to it"),
    ({"d": "/etc/passwd"}, "not a safetensors file next to it"),
    ({"d": 3}, "not a safetensors file next to it"),
  ],
)
def test_an_index_that_differs_from_its_files(
  changes: Any, message: str, tmp_path: pathlib.Path
) -> None:
  source = hugging_face(tmp_path / "hf", **changes)
  with pytest.raises(checkpoint.CheckpointError, match=message):
    checkpoint.read_weights(source / "model.safetensors.index.json")


# ------------------------------------------------------------------ memory

MEASURE = """
import resource, sys
import jax
from keyjax import Secret, checkpoint, keyring
owner = keyring.SymmetricKey(Secret(b"T" * 32))
jax.devices()
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
before = peak()
call = getattr(checkpoint, f"{sys.argv[1]}_weights")
call(sys.argv[2], sys.argv[3], owner)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("count", "mib"), [(20, 16), (80, 16), (1, 640)])
def test_memory_does_not_grow_with_the_file(
  count: int, mib: int, tmp_path: pathlib.Path
) -> None:
  source = tmp_path / "big.safetensors"
  tensors = [
    safetensors_header.Tensor(f"{i:03d}", "float32", (mib * 256, 1024))
    for i in range(count)
  ]
  header = safetensors_header.write_header(tensors, None)
  with source.open("wb") as file:
    file.write(struct.pack("<Q", len(header)) + header)
    for _ in range(count * mib):
      file.write(os.urandom(1 << 20))
  paths = [source, tmp_path / "c", tmp_path / "back.safetensors"]
  peaks = {}
  for what, a, b in zip(
    ("import", "export"), paths[:2], paths[1:], strict=True
  ):
    found = subprocess.run(
      [sys.executable, "-c", MEASURE, what, str(a), str(b)],
      capture_output=True,
      text=True,
      check=False,
      env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    assert found.returncode == 0, f"{what}: {found.returncode}\n{found.stderr}"
    peaks[what] = int(found.stdout.split()[-1])
  print(f"{count} x {mib} MiB: {peaks} MiB above an idle process")
  assert (
    subprocess.run(["cmp", paths[0], paths[2]], check=False).returncode == 0
  )
  # Six segments of 32 MiB, TensorStore's copies of them, and two parts.
  assert peaks["import"] < 560
  assert peaks["export"] < 1.2 * mib + 320
