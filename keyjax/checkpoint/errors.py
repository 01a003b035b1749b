"""Errors of checkpoints, and the check of a tree before it is written."""

import re
from typing import Any

import jax
import numpy as np

from keyjax import keys
from keyjax.errors import (
  CheckpointContentError,
  CheckpointError,
  CheckpointStorageError,
)
from keyjax.tree import path_str

__all__ = [
  "CheckpointContentError",
  "CheckpointError",
  "CheckpointStorageError",
  "check_tree",
  "content_error",
  "storage_error",
]


def storage_error(what: str, error: Exception) -> CheckpointStorageError:
  """Return the error of storage that failed, in one line without values."""
  return CheckpointStorageError(_in_one_line(what, error))


def content_error(what: str, error: Exception) -> CheckpointContentError:
  """Return the error of data that is refused, in one line without values."""
  return CheckpointContentError(_in_one_line(what, error))


def _in_one_line(what: str, error: Exception) -> str:
  # Orbax wraps some errors in a plain Exception with pages of text.
  cause = (error.__cause__ or error) if type(error) is Exception else error
  # Its texts may print values of arrays: only the start of the first line.
  text = str(cause).strip()
  system = re.search(r"([^:\[\]]+) \[os_error_code=", text)
  reason = system[1].strip() if system else text.split("\n")[0][:160]
  return f"{what}: {reason or type(cause).__name__}"


def check_tree(tree: Any) -> None:
  """Raise a ValueError unless a tree has only arrays and numbers, and no keys.

  It does so before Orbax: its threads outlive an early error by minutes.
  """
  is_key = lambda x: isinstance(x, keys.Key | keys.Secret)  # noqa: E731
  if any(map(is_key, jax.tree.leaves(tree, is_leaf=is_key))):
    raise ValueError(
      "a checkpoint holds no keys: store them with keys.save or Secret.save, "
      "outside the checkpoint's folder"
    )
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  if not leaves:
    raise ValueError(
      "a checkpoint holds at least one array; this tree is empty"
    )
  for path, x in leaves:
    if not isinstance(x, jax.Array | np.ndarray | np.generic | int | float):
      raise ValueError(
        f"a checkpoint holds arrays; leaf {path_str(path)} is of type "
        f"{type(x).__name__}"
      )
