"""The error of checkpoints, and what refuses a tree before it is written."""

import re
from typing import Any

import jax
import numpy as np

from keyjax import keys
from keyjax.errors import CheckpointError
from keyjax.tree import path_str


def flat(what: str, error: Exception) -> CheckpointError:
  """Returns one line that says what failed and why, and holds no values."""
  # Orbax wraps some errors in a bare Exception with pages of text.
  error = (error.__cause__ or error) if type(error) is Exception else error  # type: ignore[assignment]
  # Its texts may print values of arrays: the first line's start only.
  text = str(error).strip()
  system = re.search(r"([^:\[\]]+) \[os_error_code=", text)
  reason = system[1].strip() if system else text.split("\n")[0][:160]
  return CheckpointError(f"{what}: {reason or type(error).__name__}")


def refuse(tree: Any) -> None:
  """Raises a ValueError unless a tree is of arrays and numbers, and no keys.

  It does so before Orbax: its threads outlive an early error by minutes.
  """
  is_key = lambda x: isinstance(x, keys.Key | keys.Secret)  # noqa: E731
  if any(map(is_key, jax.tree.leaves(tree, is_leaf=is_key))):
    raise ValueError(
      "a checkpoint holds no keys: store them with keys.save or Secret.save, "
      "away from the checkpoint's folder"
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
