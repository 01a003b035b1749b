"""Altered files: values are restored as saved, or not at all."""

import json
import os
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest

from keyjax import Secret, checkpoint, keyring
from tests import trees
from tests.checkpoint import damage

OWNER = keyring.SymmetricKey(Secret.generate())
ERRORS = (checkpoint.CheckpointError, keyring.KeyringError)


def tree(seed: int = 0) -> dict[str, Any]:
  rng = np.random.default_rng(seed)
  return {
    "a": rng.normal(size=(50, 41)).astype(np.float32),
    "b": rng.normal(size=(50, 41)).astype(np.float32),
    "c": {"d": rng.integers(0, 9, 30_000).astype(np.int8)},
  }


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  path = tmp_path_factory.mktemp("saved") / "c"
  checkpoint.save(path, tree(), OWNER, step=3, metadata={"x": 1})
  return path


def files(path: pathlib.Path) -> list[pathlib.Path]:
  return sorted(p for p in path.rglob("*") if p.is_file())


def opened(path: pathlib.Path) -> bool:
  """Return whether it opens; then everything must be as it was saved."""
  try:
    found = checkpoint.restore(path, OWNER, step=3)
    metadata = checkpoint.read_metadata(path, OWNER)
  except (*ERRORS, FileNotFoundError) as error:
    assert "\n" not in str(error)
    return False
  trees.assert_same_bits(found, tree())
  assert metadata == {"x": 1}
  return True


def flip(path: pathlib.Path, count: int, seed: int) -> tuple[int, int]:
  """Flip one bit at a time, over all files by size; count the refused."""
  everything = files(path)
  sizes = np.array([p.stat().st_size for p in everything])
  ends = np.cumsum(sizes)
  rng = np.random.default_rng(seed)
  refused = 0
  for place in rng.integers(0, ends[-1], count):
    which = int(np.searchsorted(ends, place, "right"))
    offset = int(place - (ends[which] - sizes[which]))
    with everything[which].open("r+b") as file:
      file.seek(offset)
      byte = file.read(1)
      file.seek(offset)
      file.write(bytes([byte[0] ^ 1 << int(rng.integers(8))]))
      file.flush()
      refused += not opened(path)
      file.seek(offset)
      file.write(byte)
  assert opened(path)
  return refused, count


@pytest.mark.faults
def test_flipped_bits(saved: pathlib.Path) -> None:
  refused, count = flip(saved, 300, 0)
  assert refused > count // 2


@pytest.mark.faults
@pytest.mark.slow
def test_ten_thousand_flipped_bits(saved: pathlib.Path) -> None:
  refused, count = flip(saved, 10_000, 1)
  print(f"\n{count} flips: {refused} refused, the others changed no value")
  assert refused > count // 2


@pytest.mark.faults
def test_truncated_and_missing_files(
  saved: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  refused = 0
  for file in files(saved):
    data = file.read_bytes()
    for size in {0, len(data) // 2, len(data) - 1}:
      file.write_bytes(data[:size])
      refused += not opened(saved)
    file.rename(tmp_path / "away")
    refused += not opened(saved)
    (tmp_path / "away").rename(file)
    file.write_bytes(data)
  assert opened(saved) and refused >= 8


@pytest.mark.faults
def test_padding_is_authenticated_too(
  saved: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  shutil.copytree(saved, tmp_path / "c")
  sealed = damage.padding(saved, OWNER)
  damage.flip(tmp_path / "c", sealed, len(sealed) // 2)
  assert opened(tmp_path / "c")
  (problem,) = checkpoint.verify(tmp_path / "c", OWNER)
  assert problem.where == "padding" and "do not open: " in problem.what
  assert checkpoint.verify(saved, OWNER) == []


def copy(
  path: pathlib.Path, target: pathlib.Path, old: bytes, new: bytes
) -> None:
  """Copy a checkpoint with some of its bytes replaced."""
  shutil.copytree(path, target)
  damage.replace(target, old, new)


@pytest.mark.faults
def test_swapped_parts(saved: pathlib.Path, tmp_path: pathlib.Path) -> None:
  a, b, d = (damage.message(saved, OWNER, name) for name in ("a", "b", "c/d"))
  copy(saved, tmp_path / "leaf", a, b)
  with pytest.raises(checkpoint.CheckpointError, match="leaf a does not open"):
    checkpoint.restore(tmp_path / "leaf", OWNER)
  # The other leaves open without it.
  found = checkpoint.restore(tmp_path / "leaf", OWNER, leaves="b|c/d")
  np.testing.assert_array_equal(found["b"], tree()["b"])
  chunks = bytearray(d)
  first = 56
  step = 16400
  one = chunks[first : first + step]
  assert len(chunks) > first + step
  mixed = bytes(chunks[:first] + one[::-1] + chunks[first + step :])
  copy(saved, tmp_path / "chunk", d, mixed)
  assert not opened(tmp_path / "chunk")
  for name, step_ in (("step", 4), ("checkpoint", 3)):
    other = tmp_path / f"of-{name}"
    checkpoint.save(other, tree(), OWNER, step=step_)
    copy(saved, tmp_path / name, a, damage.message(other, OWNER, "a"))
    with pytest.raises(
      checkpoint.CheckpointError, match="leaf a does not open"
    ):
      checkpoint.restore(tmp_path / name, OWNER)
  (problem,) = checkpoint.verify(tmp_path / "leaf", OWNER)
  assert problem.where == "a" and "another message" in problem.what


@pytest.mark.faults
def test_replayed_manifests_and_envelopes(
  saved: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  """Swap in header or data of another checkpoint of this owner and tree."""
  other = tmp_path / "other"
  checkpoint.save(other, tree(1), OWNER, step=2)
  for name in ("header", "sealed"):
    mixed = tmp_path / f"mixed-{name}"
    shutil.copytree(saved, mixed)
    shutil.rmtree(mixed / name)
    shutil.copytree(other / name, mixed / name)
    with pytest.raises(
      checkpoint.CheckpointError, match="manifest does not open"
    ):
      checkpoint.restore(mixed, OWNER)
  # A complete older checkpoint is valid: the expected step reveals it.
  with pytest.raises(
    checkpoint.CheckpointError, match="of step 2, not of step 3"
  ):
    checkpoint.restore(other, OWNER, step=3)


@pytest.mark.faults
@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("format", "other", "not a sealed checkpoint"),
    ("version", 2, "of version 2: this release"),
    ("version", True, "of version True"),
    ("version", "1" * 100, "this release of KeyJAX reads"),
    ("envelope", "{}", "version|field"),
    ("envelope", 7, "other fields"),
    ("envelope", "é", "other fields"),
    ("extra", 1, "other fields"),
  ],
)
def test_edited_headers(
  field: str, value: Any, message: str, saved: pathlib.Path
) -> None:
  file = saved / "header" / "metadata"
  data = file.read_text()
  try:
    file.write_text(json.dumps(json.loads(data) | {field: value}))
    with pytest.raises(ERRORS, match=message):
      checkpoint.restore(saved, OWNER)
    for text in ("", "[]", "[" * 100_000, "nul"):
      file.write_text(text)
      with pytest.raises(ERRORS, match="not a sealed checkpoint"):
        checkpoint.restore(saved, OWNER)
  finally:
    file.write_text(data)


@pytest.mark.faults
def test_arrays_of_another_kind_are_refused_unread(
  saved: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  """An attacker who alters the storage's own metadata gains nothing."""
  import tensorstore as ts

  for i, change in enumerate(
    (
      {"dtype": "<f4"},
      {"compressor": {"id": "zstd", "level": 1}},
      {"shape": [1 << 45], "chunks": [1 << 45]},
      {"chunks": [1 << 40]},
    )
  ):
    target = tmp_path / str(i)
    shutil.copytree(saved, target)
    base = {"driver": "ocdbt", "base": f"file://{target}/sealed/"}
    store = ts.KvStore.open(base).result()
    text = json.loads(store["manifest/.zarray"])
    store["manifest/.zarray"] = json.dumps(text | change).encode()
    with pytest.raises(
      checkpoint.CheckpointError, match="could not read|unexpected size"
    ):
      checkpoint.restore(target, OWNER)


def test_a_failed_rewrap_leaves_the_old_envelope(
  saved: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  def full(*_: Any) -> None:
    raise OSError(28, "No space left on device")

  with monkeypatch.context() as patch:
    patch.setattr(os, "fsync", full)
    with pytest.raises(checkpoint.CheckpointError, match="could not rewrap"):
      checkpoint.rewrap(saved, OWNER, OWNER)
  assert opened(saved)
  assert [p.name for p in (saved / "header").glob(".*")] == []
