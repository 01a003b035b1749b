"""Safetensors files with headers of our own."""

import json
import pathlib
import struct
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from keyjax import Secret, checkpoint, keyring

OWNER = keyring.SymmetricKey(Secret(b"T" * 32))


def write_raw(
  path: pathlib.Path, header: Any, data: bytes = b"", padding: int = 0
) -> pathlib.Path:
  """Write a file with a header of our own; text is taken as it is."""
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  text += b" " * padding
  path.write_bytes(struct.pack("<Q", len(text)) + text + data)
  return path


def one(dtype: str, shape: list[int], size: int) -> dict[str, Any]:
  return {"w": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}


def sealed_and_exported(
  path: pathlib.Path, target: pathlib.Path
) -> pathlib.Path:
  checkpoint.import_weights(path, target.parent / "sealed", OWNER)
  checkpoint.export_weights(target.parent / "sealed", target, OWNER)
  return target


def hugging_face(folder: pathlib.Path, **changes: Any) -> pathlib.Path:
  """Write two files and their index, as transformers does."""
  folder.mkdir()
  names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
  index = {
    "metadata": {"total_size": 24},
    "weight_map": {"a/x": names[0], "b": names[1], "c": names[1], **changes},
  }
  save_file(
    {"a/x": np.ones(3, np.float32)}, folder / names[0], {"format": "pt"}
  )
  rest = {"b": np.zeros(2, np.int8), "c": np.arange(5)}
  save_file(rest, folder / names[1], {"format": "pt"})
  text = json.dumps(index, indent=2, sort_keys=True) + "\n"
  (folder / "model.safetensors.index.json").write_text(text)
  return folder
