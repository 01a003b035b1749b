"""Files of llama.cpp: GGUF, by the package `gguf`, which an extra brings."""

import functools
import os
import pathlib
from typing import Any

import numpy as np

_INSTALL = "reading GGUF needs gguf: pip install 'keyjax[pretrained]'"


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """Read the tensors of a file, by name.

  Args:
    path: A `.gguf` file.

  Returns:
    Arrays `[out, in]`: F16 as `float16`, everything else as `float32`.

  Raises:
    ValueError: If this is no GGUF file, if it is truncated, or if a tensor is
      of a kind that `gguf` does not dequantise, such as integers; the message
      names the file and the tensor.
    FileNotFoundError: If there is no such file.
  """
  quants = _package().quants
  found = {}
  for tensor in _open(path).tensors:
    try:
      # uint8[out, bytes of a row] -> float[out, in]
      array = quants.dequantize(tensor.data, tensor.tensor_type)
    except NotImplementedError:
      raise ValueError(
        f"{_name(path)}: tensor {tensor.name} is of kind "
        f"{tensor.tensor_type.name}, which is not read"
      ) from None
    # A copy: the file may go away.
    found[tensor.name] = np.array(array)
  return found


def metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
  """Read the metadata of a file: numbers, text and lists, by key.

  Args:
    path: A `.gguf` file.

  Raises:
    ValueError: If this is no GGUF file, or it is truncated.
    FileNotFoundError: If there is no such file.
  """
  fields = _open(path).fields
  # The reader adds its own counts, of the file's header.
  keys = [key for key in fields if not key.startswith("GGUF.")]
  return {key: fields[key].contents() for key in keys}


def _package() -> Any:
  try:
    import gguf
    import gguf.quants
  except ImportError:
    raise ValueError(_INSTALL) from None
  return gguf


def _name(path: str | os.PathLike[str]) -> str:
  return pathlib.PurePath(path).name


def _open(path: str | os.PathLike[str]) -> Any:
  """Return a reader of a file whose header and tensors are whole."""
  with open(path, "rb") as file:
    magic = file.read(4)
  if magic != b"GGUF":
    raise ValueError(f"{_name(path)}: no GGUF file")
  try:
    return _reader()(path)
  except _Broken as error:
    raise ValueError(f"{_name(path)}: {error}") from None
  except (ValueError, IndexError, KeyError, OverflowError) as error:
    # The package indexes into the file without asking for its size.
    raise ValueError(
      f"{_name(path)}: the header is truncated or damaged ({error})"
    ) from None


class _Broken(Exception):
  """What is wrong with a tensor."""


@functools.cache
def _reader() -> type[Any]:
  """Return a class of reader that names the tensor that it cannot read."""

  class Reader(_package().GGUFReader):  # type: ignore[misc]
    def _build_tensors(self, start_offs: int, fields: list[Any]) -> None:
      found: dict[str, Any] = {}
      for field in fields:
        if field.name in found:
          raise _Broken(f"two tensors have the name {field.name}")
        try:
          super()._build_tensors(start_offs, [field])
        except ValueError as error:
          number = int(field.parts[4][0])
          kinds = _package().GGMLQuantizationType
          if number not in kinds.__members__.values():
            cause = f"is of kind {number}, which is not read"
          else:
            cause = f"is truncated ({error})"
          raise _Broken(f"tensor {field.name} {cause}") from None
        found[field.name] = self.tensors[0]
      self.tensors = [*found.values()]

  return Reader
