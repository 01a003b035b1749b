"""Safetensors files, and manifests of them, that are refused in one line."""

import json
import os
import pathlib
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from keyjax import checkpoint
from keyjax.checkpoint.format import manifest_json, origin
from keyjax.checkpoint.opened import open_checkpoint
from tests.checkpoint import damage
from tests.checkpoint.tensor_files import (
  OWNER,
  hugging_face,
  one,
  write_raw,
)

# ------------------------------------------------------------------ errors


W = one("F32", [2], 8)
BROKEN: dict[str, tuple[Any, bytes, str]] = {
  "F4": (one("F4", [4], 2), b"88", "tensor w is of F4, which is not supported"),
  "unknown": (one("X9", [1], 1), b"8", "tensor w is of X9, which is not"),
  "short": (W, b"1234567", "7 bytes of tensors, not 8"),
  "long": (W, b"123456789", "9 bytes of tensors, not 8"),
  "gap": (
    W | {"v": {"dtype": "U8", "shape": [1], "data_offsets": [9, 10]}},
    bytes(10),
    "the offsets of 'v' differ",
  ),
  "overlap": (
    W | {"v": {"dtype": "U8", "shape": [1], "data_offsets": [7, 8]}},
    bytes(8),
    "the offsets of 'v' differ",
  ),
  "shape": (one("F32", [3], 8), bytes(8), "the offsets of 'w' differ"),
  "negative": (one("F32", [-2], 8), bytes(8), "tensor 'w' is malformed"),
  "bool size": (one("U8", [True], 1), b"1", "tensor 'w' is malformed"),
  "field": ({"w": W["w"] | {"x": 1}}, bytes(8), "tensor 'w' is malformed"),
  "twice": (b'{"w":1,"w":2}', b"", "not a safetensors file"),
  "surrogate": (
    b'{"\\ud800":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
    b"1",
    "is malformed",
  ),
  "list": (b"[]", b"", "not a safetensors file"),
  "deep": (b"{" + b'"a":{' * 50_000, b"", "not a safetensors file"),
  "metadata": (W | {"__metadata__": {"a": 1}}, bytes(8), "not text by name"),
  "empty": ({}, b"", "this tree is empty"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files(name: str, tmp_path: pathlib.Path) -> None:
  header, data, message = BROKEN[name]
  source = write_raw(tmp_path / "w.safetensors", header, data)
  kind: Any = (checkpoint.CheckpointError, ValueError)
  with pytest.raises(kind, match=message) as caught:
    checkpoint.import_weights(source, tmp_path / "c", OWNER)
  assert "\n" not in str(caught.value) and not (tmp_path / "c").exists()


def test_a_file_that_becomes_shorter(tmp_path: pathlib.Path) -> None:
  from keyjax.checkpoint.weights import safetensors_reading as reading

  source = tmp_path / "w.safetensors"
  save_file({"w": np.ones(1000)}, source)
  with reading.open_files(source) as (tree, _):
    os.truncate(source, 4000)
    with pytest.raises(checkpoint.CheckpointError, match="became shorter"):
      tree["w"].read_whole()


def test_dtypes_that_files_do_not_have(tmp_path: pathlib.Path) -> None:
  for dtype in ("int4", "float4_e2m1fn", "float8_e3m4"):
    tree = {"w": np.ones(2, getattr(ml_dtypes, dtype))}
    with pytest.raises(ValueError, match=f"leaf w is of {dtype}, which safe"):
      checkpoint.write_weights(tmp_path / "w.safetensors", tree)
  with pytest.raises(ValueError, match="cannot have the name '__metadata__'"):
    checkpoint.write_weights(
      tmp_path / "w.safetensors", {"__metadata__": np.ones(1)}
    )
  with pytest.raises(ValueError, match="text by name"):
    bad: Any = {"a": 1}
    checkpoint.write_weights(
      tmp_path / "w.safetensors", {"w": np.ones(1)}, metadata=bad
    )
  assert list(tmp_path.iterdir()) == []


def test_damage_leaves_nothing(tmp_path: pathlib.Path) -> None:
  hugging_face(tmp_path / "hf")
  checkpoint.import_weights(tmp_path / "hf", tmp_path / "c", OWNER)
  damage.flip(tmp_path / "c", damage.message(tmp_path / "c", OWNER, "b"), 60)
  before = sorted(tmp_path.iterdir())
  for name in ("o", "o.safetensors"):
    with pytest.raises(checkpoint.CheckpointError, match="leaf b does not"):
      checkpoint.export_weights(
        tmp_path / "c", tmp_path / name, OWNER, kind="safetensors"
      )
  assert sorted(tmp_path.iterdir()) == before


# ---------------------------------------------------------------- manifest


def test_manifests_keep_version_1_where_they_can(
  tmp_path: pathlib.Path,
) -> None:
  """Earlier releases read those, and refuse version 2 by its number."""
  save_file({"w": np.ones(2)}, tmp_path / "w.safetensors")
  checkpoint.import_weights(tmp_path / "w.safetensors", tmp_path / "c", OWNER)
  checkpoint.save(tmp_path / "d", {"w": np.ones(2)}, OWNER)
  for name, version in (("c", b'"version":2'), ("d", b'"version":1')):
    manifest = open_checkpoint(tmp_path / name, OWNER).manifest
    data = manifest_json.to_bytes(manifest)
    assert version in data and (b"origin" in data) == (name == "c")
    assert manifest_json.from_bytes(data) == manifest


FILE = {"header": None, "leaves": [0], "metadata": None, "name": "w"}
ORIGIN = {
  "files": [FILE],
  "format": "safetensors",
  "index": None,
  "index_name": None,
}
HOSTILE = [
  ORIGIN | {"files": []},
  ORIGIN | {"files": [FILE | {"name": "../w"}]},
  ORIGIN | {"files": [FILE | {"name": ".."}]},
  ORIGIN | {"files": [FILE | {"name": "a/b"}]},
  ORIGIN | {"files": [FILE | {"name": "a\0"}]},
  ORIGIN | {"files": [FILE | {"leaves": [1]}]},
  ORIGIN | {"files": [FILE | {"leaves": [0, 0]}]},
  ORIGIN | {"files": [FILE | {"leaves": [True]}]},
  ORIGIN | {"files": [FILE | {"metadata": [["a"]]}]},
  ORIGIN | {"files": [FILE | {"metadata": {"a": "b"}}]},
  ORIGIN | {"files": [FILE | {"header": 1}]},
  ORIGIN | {"files": [FILE, FILE]},
  ORIGIN | {"index": "{}"},
  ORIGIN | {"index": "{}", "index_name": "w"},
  ORIGIN | {"index": "{}", "index_name": "../i"},
  ORIGIN | {"more": 1},
  [],
  "x",
]


@pytest.mark.parametrize("value", HOSTILE)
def test_malformed_origins_are_refused(value: Any) -> None:
  assert origin.to_json(origin.from_json(ORIGIN, 1)) == {
    **ORIGIN,
    "files": [FILE | {"leaves": (0,)}],
  }
  with pytest.raises(checkpoint.CheckpointError, match="sealed from"):
    origin.from_json(value, 1)


def test_headers_of_other_leaves_are_refused(tmp_path: pathlib.Path) -> None:
  """A recipient can seal any header; it must describe what is sealed."""
  from keyjax.checkpoint.saving import save_with_origin

  text = json.dumps(one("F32", [3], 12))
  file = origin.OriginalFile("w", leaves=(0,), metadata=None, header=text)
  save_with_origin(
    tmp_path / "c",
    {"w": np.ones(2, np.float32)},
    OWNER,
    step=0,
    metadata=None,
    signer=None,
    origin=origin.Origin(files=(file,)),
  )
  with pytest.raises(
    checkpoint.CheckpointError, match="describes other leaves"
  ):
    checkpoint.export_weights(tmp_path / "c", tmp_path / "o.safetensors", OWNER)
