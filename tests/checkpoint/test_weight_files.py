"""Import and export of weight files."""

import pathlib
from typing import Any

import jax
import numpy as np
import pytest
from flax import serialization
from safetensors.numpy import load_file, save_file

from keyjax import Secret, checkpoint, keyring
from tests import trees

OWNER = keyring.SymmetricKey(Secret.generate())
TREE = {
  "dense": {"kernel": np.arange(12, dtype=np.float32).reshape(3, 4)},
  "half": np.arange(4, dtype=jax.numpy.bfloat16),
}
NAMES = ("w.safetensors", "w.msgpack", "folder")


@pytest.mark.parametrize("name", NAMES)
def test_import_and_export(name: str, tmp_path: pathlib.Path) -> None:
  source = tmp_path / name
  target = tmp_path / f"back-{name}"
  if name == "folder":
    checkpoint.save_plain(source, TREE)
  elif name == "w.msgpack":
    source.write_bytes(serialization.msgpack_serialize(TREE))
  else:
    flat = {"dense.kernel": TREE["dense"]["kernel"], "half": TREE["half"]}  # type: ignore[call-overload]
    save_file(flat, source)
  sealed = tmp_path / "sealed"
  checkpoint.import_weights(source, sealed, OWNER, step=2, metadata={"a": 1})
  assert checkpoint.read_metadata(sealed, OWNER) == {"a": 1}
  checkpoint.export_weights(sealed, target, OWNER)
  found: Any = checkpoint.read_weights(target)
  if name == "w.safetensors":
    assert (
      sorted(found) == ["dense.kernel", "half"] == sorted(load_file(source))
    )
    found = {"dense": {"kernel": found["dense.kernel"]}, "half": found["half"]}
  trees.assert_same_bits(found, TREE)
  if target.is_file():
    assert target.stat().st_mode & 0o777 == 0o600
  with pytest.raises(FileExistsError):
    checkpoint.export_weights(sealed, target, OWNER)


def test_mistakes(tmp_path: pathlib.Path) -> None:
  with pytest.raises(FileNotFoundError):
    checkpoint.import_weights(tmp_path / "none", tmp_path / "c", OWNER)
  for name in ("bad.safetensors", "bad.msgpack", "bad.bin"):
    (tmp_path / name).write_bytes(b"\xff" * 40)
    kind: Any = ValueError if name == "bad.bin" else checkpoint.CheckpointError
    with pytest.raises(kind, match="damaged, or is not a|neither an Orbax"):
      checkpoint.import_weights(tmp_path / name, tmp_path / "c", OWNER)
  checkpoint.save(
    tmp_path / "c", {"a": {"b": np.ones(1)}, "a.b": np.ones(1)}, OWNER
  )
  with pytest.raises(ValueError, match="one name with dots"):
    checkpoint.export_weights(tmp_path / "c", tmp_path / "o.safetensors", OWNER)
