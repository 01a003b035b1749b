"""Checks of a tree, before anything is written."""

import os
from typing import Any

import jax
import numpy as np

from keyjax import arguments, keys
from keyjax.checkpoint.format.manifest import DTYPES
from keyjax.checkpoint.parts import rng_keys
from keyjax.checkpoint.parts.stored_leaf import StoredLeaf
from keyjax.secrets import Secret
from keyjax.tree import path_str

_LEAVES = (jax.Array, np.ndarray, np.generic, StoredLeaf, int, float)


def check_tree(tree: Any) -> None:
  """Raise a ValueError unless a tree has only arrays and numbers, and no keys.

  It does so before Orbax: its threads outlive an early error by minutes.
  """
  is_key = lambda x: isinstance(x, keys.Key | Secret)  # noqa: E731
  if any(map(is_key, jax.tree.leaves(tree, is_leaf=is_key))):
    raise ValueError(
      "a checkpoint holds no keys: store them with keys.save or Secret.save, "
      "outside the checkpoint's folder"
    )
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  if isinstance(tree, str | os.PathLike) or hasattr(tree, "wrap"):
    raise ValueError(
      f"the tree is {arguments.describe(tree)}: the order is path, tree, "
      "recipients"
    )
  if not leaves:
    raise ValueError(
      "a checkpoint holds at least one array; this tree is empty"
    )
  for path, x in leaves:
    if not isinstance(x, _LEAVES):
      raise ValueError(
        f"a checkpoint holds arrays; leaf {path_str(path) or '(root)'} is of "
        f"type {type(x).__name__}"
      )
    if not rng_keys.is_rng(x):
      leaf_dtype(path_str(path), x)


def leaf_dtype(path: str, leaf: Any) -> str:
  """Return the name of a leaf's dtype in NumPy, or of a Python number's.

  Raises:
    ValueError: If the dtype is not supported, or a number is too large.
  """
  if isinstance(leaf, int) and not -(2**63) <= leaf < 2**63:
    raise ValueError(f"leaf {path} does not fit into 64 bits")
  if not hasattr(leaf, "dtype"):
    return {bool: "bool", int: "int64"}.get(type(leaf), "float64")
  name = np.dtype(leaf.dtype).name
  if name not in DTYPES:
    raise ValueError(
      f"leaf {path} is of {name}, which is not supported: cast it"
    )
  return name
