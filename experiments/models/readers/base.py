"""Readers by the suffix of a file."""

import importlib
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.run.registry import Registry

Arrays = dict[str, np.ndarray]
Reader = Callable[[pathlib.Path], Arrays]

FOLDER = "a folder"  # What a reader of folders registers, in place of a suffix.
READERS: Registry[Reader] = Registry(
  "kind of weight file", "experiments.models.readers"
)


def register(suffix: str, reader: Reader) -> None:
  """Register a reader; a file of this folder does so for its format.

  Args:
    suffix: How names of such files end, or `FOLDER`.
    reader: Function from a path to the tensors by name, as the file has them.

  Raises:
    ValueError: If the suffix is taken.
  """
  READERS.add(suffix, reader)


def read(path: str | os.PathLike[str]) -> Arrays:
  """Read the tensors of a file, or of a folder, by name.

  Raises:
    ValueError: If the file is of no known kind, is damaged, or has a tensor
      that is not read, which the message names; or the library that reads it
      is not installed.
    FileNotFoundError: If there is no such file.
  """
  file = pathlib.Path(path)
  return READERS.get(_kind(file))(file)


def library(module: str) -> Any:
  """Import the library that reads a format.

  Raises:
    ValueError: If it is not installed; the message says what to type.
  """
  try:
    return importlib.import_module(module)
  except ImportError as error:
    raise ValueError(
      f"{module} cannot be imported ({error}): pip install 'keyjax[pretrained]'"
    ) from None


def reason(error: Exception) -> str:
  """Return what an error of a library says, in one short line."""
  text = " ".join(str(error).split())[:200]
  return text or type(error).__name__


def _kind(file: pathlib.Path) -> str:
  """Return the suffix that a reader has registered for a file."""
  if file.is_dir():
    return FOLDER
  suffixes = [name for name in READERS.names() if name != FOLDER]
  fitting = [name for name in suffixes if file.name.endswith(name)]
  if not fitting:
    raise ValueError(
      f"{file.name}: weights are read from {FOLDER}, {', '.join(suffixes)}"
    )
  return max(fitting, key=len)
