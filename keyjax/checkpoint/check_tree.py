"""Checks of a tree, before anything is written."""

import os
from typing import Any

import jax
import numpy as np

from keyjax import arguments, keys
from keyjax.checkpoint.format import tree_structure
from keyjax.checkpoint.format.manifest import DTYPES
from keyjax.checkpoint.parts import rng_keys
from keyjax.checkpoint.parts.stored_leaf import StoredLeaf
from keyjax.secrets import Secret
from keyjax.tree import path_str

_LEAVES = (jax.Array, np.ndarray, np.generic, StoredLeaf, int, float)


def check_tree(tree: Any) -> None:
  """Raise a ValueError unless a tree can be stored and comes back as it is.

  It has only arrays and numbers, and no keys. This is found before Orbax
  begins: its threads outlive an early error by minutes.
  """
  _check_sortable(tree)
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
    if isinstance(x, np.ma.MaskedArray):
      raise ValueError(
        f"leaf {path_str(path) or '(root)'} is a masked array, which would "
        "lose its mask: store `.filled()` of it, or its data and its mask"
      )
    if not rng_keys.is_rng(x):
      leaf_dtype(path_str(path), x)
  _check_keys(tree)


def _check_sortable(tree: Any) -> None:
  try:
    jax.tree.structure(tree)
  except ValueError as error:  # Of JAX, which sorts the keys of dicts.
    raise ValueError(
      "the tree has a dict whose keys have no order, such as text beside "
      f"numbers ({arguments.first_line(error)})"
    ) from None


def _check_keys(tree: Any) -> None:
  """Refuse keys of dicts that would come back as others; see `name_of`."""
  is_end = lambda x: x is None or _is_empty(x)  # noqa: E731
  for path, _ in jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_end):
    try:
      for entry in path:
        tree_structure.name_of(entry)
    except ValueError as error:
      shown = ascii(path_str(path))[1:-1]
      raise ValueError(f"leaf {shown:.80}: {error}") from None


def _is_empty(node: Any) -> bool:
  return isinstance(node, dict | list | tuple) and not node


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
