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


def rows_of(case: dict[str, Any], **altered: bytes) -> Any:
  """Return the reader of a case's arrays, without a container."""

  def rows(name: str) -> list[bytes]:
    data = altered.get(name, octets(case["arrays"][name]))
    size = case["streams"][2] if name.isdigit() else len(data)
    return [data[i : i + size] for i in range(0, len(data), size)]

  return rows


CHECKPOINTS = vectors("checkpoints")["cases"]
OWNER = [("secret", SECRET)]
by_name = pytest.mark.parametrize("case", CHECKPOINTS, ids=lambda x: x["case"])


def write_container(path: pathlib.Path, case: dict[str, Any]) -> None:
  """Write a checkpoint as docs/formats/checkpoints.md describes it."""
  (path / "header").mkdir(parents=True)
  (path / "header/metadata").write_text(json.dumps(case["header"]))
  count, _, size, read_size = case["streams"]
  for name, data in case["arrays"].items():
    array = np.frombuffer(octets(data), np.uint8)
    chunks = [array.size]
    if name.isdigit():
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
  opened = read_sealed.open_checkpoint(header, rows_of(case), OWNER, verify_key)
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
    rows = rows_of(case, **{name: bytes(data)})
    with pytest.raises(Refused):
      read_sealed.open_checkpoint(header, rows, OWNER, verify_key)
  other = next(x for x in CHECKPOINTS if x is not case)
  with pytest.raises(Refused):
    read_sealed.open_checkpoint(header, rows_of(other), OWNER)
