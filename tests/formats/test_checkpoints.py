"""Sealed checkpoints, opened by KeyJAX and by a second reader."""

import json
import pathlib
from typing import Any

import numpy as np
import pytest
import tensorstore as ts

from examples import read_keys, read_sealed
from examples.read_envelope import Refused
from keyjax import (
  Secret,
  checkpoint,
  keyring,
  tree,
)
from tests.formats.vectors import SECRET, octets, vectors


def arrays_of(case: dict[str, Any], **altered: bytes) -> Any:
  """Return the reader of a case's arrays, without a container."""
  return lambda name: altered.get(name, octets(case["arrays"][name]))


CHECKPOINTS = vectors("checkpoints")["cases"]
OWNER = [("secret", SECRET)]
by_name = pytest.mark.parametrize("case", CHECKPOINTS, ids=lambda x: x["case"])


def write_container(
  path: pathlib.Path, case: dict[str, Any], in_rows: bool = False
) -> None:
  """Write a checkpoint as docs/formats/checkpoints.md describes it."""
  (path / "header").mkdir(parents=True)
  (path / "header/metadata").write_text(json.dumps(case["header"]))
  count, _, size, read_size = case["streams"]
  for name, data in case["arrays"].items():
    array = np.frombuffer(octets(data), np.uint8)
    chunks = [array.size]
    if name.isdigit():
      chunks = [read_size]
    if name.isdigit() and in_rows:
      array, chunks = array.reshape(count, size), [1, read_size]
    base = {"driver": "file", "path": f"{path}/sealed/"}
    metadata = {"dtype": "|u1", "compressor": None, "chunks": chunks}
    spec = {
      "driver": "zarr",
      "kvstore": {"driver": "ocdbt", "base": base},
      "path": f"{name}/",
      "metadata": metadata | {"shape": list(array.shape)},
    }
    ts.open(spec, create=True, open=True).result().write(array).result()


@by_name
def test_checkpoints(case: dict[str, Any], tmp_path: pathlib.Path) -> None:
  header = json.dumps(case["header"]).encode()
  line = case["verify_key"]
  verify_key = read_keys.public_key(line) if line else None
  opened = read_sealed.open_checkpoint(
    header, arrays_of(case), OWNER, verify_key
  )
  manifest, leaves = opened
  assert manifest["metadata"] == case["metadata"]
  assert manifest["step"] == case["step"]
  names = (manifest.get("name", ""), manifest.get("run", ""))
  assert names == (case["name"], case["run"])
  assert manifest["tree"] == case["tree"]
  want = {p: (d, s, bytes.fromhex(raw)) for p, d, s, _, raw in case["leaves"]}
  assert leaves == want
  # And in its container, which KeyJAX reads too.
  path = tmp_path / "model"
  write_container(path, case)
  header = (path / "header/metadata").read_bytes()
  stored = read_sealed.container(path)
  assert (
    read_sealed.open_checkpoint(header, stored, OWNER, verify_key) == opened
  )
  owner = keyring.as_identity(Secret(SECRET))
  key = keyring.parse_verify_key(line) if line else None
  found = checkpoint.restore(
    path,
    owner,
    step=case["step"],
    name=case["name"] or None,
    run=case["run"] or None,
    verify_key=key,
  )
  paths, values, _ = tree.flatten(found)
  assert paths == list(want)
  for name, value in zip(paths, values, strict=True):
    assert tree.bits(value).tobytes() == want[name][2], name
  assert not checkpoint.verify(path, owner, verify_key=key)


def test_segments_stored_in_rows_are_read(tmp_path: pathlib.Path) -> None:
  """KeyJAX wrote [streams, segment size] before."""
  case = next(x for x in CHECKPOINTS if x["streams"][0] == 2)
  write_container(tmp_path / "model", case, in_rows=True)
  owner = keyring.as_identity(Secret(SECRET))
  found = checkpoint.restore(tmp_path / "model", owner)
  _, values, _ = tree.flatten(found)
  data = [tree.bits(value).tobytes().hex() for value in values]
  assert data == [raw for *_, raw in case["leaves"]]
  stored = read_sealed.container(tmp_path / "model")
  assert stored("000000") == octets(case["arrays"]["000000"])


@by_name
def test_altered_checkpoints_are_refused(case: dict[str, Any]) -> None:
  header = json.dumps(case["header"]).encode()
  line = case["verify_key"]
  verify_key = read_keys.public_key(line) if line else None
  for name in ("manifest", "signature", "000000"):
    if name == "signature" and not line:
      continue
    data = bytearray(octets(case["arrays"][name]))
    data[100] ^= 1
    arrays = arrays_of(case, **{name: bytes(data)})
    with pytest.raises(Refused):
      read_sealed.open_checkpoint(header, arrays, OWNER, verify_key)
  other = next(x for x in CHECKPOINTS if x is not case)
  with pytest.raises(Refused):
    read_sealed.open_checkpoint(header, arrays_of(other), OWNER)
