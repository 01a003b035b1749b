"""Files of llama.cpp: GGUF, by the package `gguf`, which an extra brings."""

import functools
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

from experiments.models.readers.base import library, reason, register


class Contents(NamedTuple):
  """What a file holds.

  Attributes:
    tensors: Arrays by name, `float32[out, in]`.
    metadata: Numbers, text and lists, by key.
  """

  tensors: dict[str, np.ndarray]
  metadata: dict[str, Any]


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """Read the tensors of a file, by name; see `contents`."""
  return contents(path).tensors


def metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
  """Read the metadata of a file, and no tensors; see `contents`."""
  return _metadata(path, _open(path))


def contents(path: str | os.PathLike[str]) -> Contents:
  """Read a file.

  Args:
    path: A `.gguf` file.

  Raises:
    ValueError: If this is no GGUF file, if it is truncated, or if a tensor is
      of a kind that `gguf` does not dequantise, such as integers; the message
      names the file and the tensor.
    FileNotFoundError: If there is no such file.
  """
  reader, quants = _open(path), _package().quants
  found = {}
  for tensor in reader.tensors:
    try:
      # uint8[out, bytes of a row] -> float[out, in]
      array = quants.dequantize(tensor.data, tensor.tensor_type)
    except NotImplementedError:
      raise ValueError(
        f"{_name(path)}: tensor {tensor.name} is of kind "
        f"{tensor.tensor_type.name}, which is not read"
      ) from None
    # A copy: the file may go away.
    found[tensor.name] = np.array(array, np.float32)
  return Contents(found, _metadata(path, reader))


def _metadata(path: str | os.PathLike[str], reader: Any) -> dict[str, Any]:
  found = {}
  for key, field in reader.fields.items():
    if key.startswith("GGUF."):  # The reader's own counts.
      continue
    try:
      found[key] = field.contents()
    except ValueError as error:  # Text that is not UTF-8.
      raise ValueError(
        f"{_name(path)}: {key} is damaged: {reason(error)}"
      ) from None
  return found


def _package() -> Any:
  library("gguf.quants")
  return library("gguf")


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
  except (
    *(ValueError, TypeError, IndexError, KeyError, OverflowError),
    RecursionError,  # Of lists in lists.
  ) as error:
    # The package indexes into the file without asking for its size.
    raise ValueError(
      f"{_name(path)}: the header is truncated or damaged ({reason(error)})"
    ) from None


class _Broken(Exception):
  """What is wrong with a tensor."""


@functools.cache
def _reader() -> type[Any]:
  """Return a class of reader that names the tensor that it cannot read."""

  class Reader(_package().GGUFReader):  # type: ignore[misc]
    @property
    def data(self) -> np.ndarray:
      """The file's bytes."""
      return self._bytes

    @data.setter
    def data(self, mapped: np.ndarray) -> None:
      # Each slice of a `memmap` is one, at three times the cost of an array's.
      self._bytes = np.asarray(mapped)

    def _get(
      self, offset: int, dtype: Any, count: int = 1, *order: Any, **to: Any
    ) -> np.ndarray:
      # Past the end of the file there would be less, and a list of a length
      # that the file invents would not end.
      found: np.ndarray = super()._get(offset, dtype, count, *order, **to)
      if len(found) < count:
        raise ValueError("the file ends before")
      return found

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
      self.tensors: list[Any] = [*found.values()]

  return Reader


register(".gguf", read)
