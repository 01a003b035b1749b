"""Safetensors: one file, or a folder of Hugging Face with one or many."""

import json
import pathlib
from typing import Any

import safetensors
import safetensors.numpy

from experiments.models.readers.base import FOLDER, Arrays, register

_SUFFIX = ".safetensors"
_INDEX = f"{_SUFFIX}.index.json"


def read(path: pathlib.Path) -> Arrays:
  """Read one file."""
  try:
    found: Arrays = safetensors.numpy.load_file(path)
  except safetensors.SafetensorError as error:
    raise ValueError(f"{path.name} is damaged: {error}") from None
  except (AttributeError, KeyError) as error:  # NumPy has no such type.
    raise ValueError(
      f"{path.name} has a tensor of a kind that is not read: {error}"
    ) from None
  return found


def read_shards(index: pathlib.Path) -> Arrays:
  """Read the files that an index names, `NAME.safetensors.index.json`.

  Raises:
    ValueError: If the index is damaged, a file is missing, or a file and the
      index differ in a tensor.
  """
  places = _places(index)
  found: Arrays = {}
  for name in sorted(set(places.values())):
    file = index.parent / name
    if not file.is_file():
      raise ValueError(f"{index.name} names {name}, which is missing")
    arrays = read(file)
    listed = {tensor for tensor, at in places.items() if at == name}
    for tensor in sorted(arrays.keys() ^ listed):
      if tensor in listed:
        raise ValueError(
          f"{name} lacks {tensor}, which {index.name} says it has"
        )
      raise ValueError(f"{name} has {tensor}, which is not in {index.name}")
    found |= arrays
  return found


def read_folder(folder: pathlib.Path) -> Arrays:
  """Read a folder that has an index, or one file of tensors.

  Raises:
    ValueError: If it has neither, or several; or as `read_shards`.
  """
  for suffix, reader in ((_INDEX, read_shards), (_SUFFIX, read)):
    files = sorted(folder.glob(f"*{suffix}"))
    if len(files) == 1:
      return reader(files[0])
    if files:
      names = ", ".join(file.name for file in files[:4])
      raise ValueError(f"{folder} has several files of weights: {names}")
  raise ValueError(f"{folder} has no file *{_INDEX} or *{_SUFFIX}")


def _places(index: pathlib.Path) -> dict[str, str]:
  """Return the file of each tensor; only names of files beside the index."""
  try:
    read: Any = json.loads(index.read_text())
    places = dict(read["weight_map"])
  except (ValueError, KeyError, TypeError, RecursionError):
    raise ValueError(f"{index.name} is no index of safetensors") from None
  for tensor, name in places.items():
    if not isinstance(name, str) or pathlib.Path(name).name != name:
      raise ValueError(f"{index.name} puts {tensor} in {name!r}: no file name")
  return places


register(_SUFFIX, read)
register(_INDEX, read_shards)
register(FOLDER, read_folder)
