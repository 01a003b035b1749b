"""Checks of arguments, before anything is read or written."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from keyjax import arguments, keys
from keyjax.checkpoint.format.manifest import DTYPES
from keyjax.checkpoint.parts import rng_keys
from keyjax.checkpoint.parts.stored_leaf import StoredLeaf
from keyjax.keyring import Identity, Keyring, Recipient
from keyjax.keyring.encoding import is_name
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


def checked_step(step: Any) -> int:
  """Return a training step as an int.

  Raises:
    ValueError: If it is not a whole number, or is negative.
  """
  if isinstance(step, np.integer):
    step = int(step)
  if type(step) is not int or step < 0:
    shown = arguments.show(step)
    raise ValueError(f"step={shown}: a whole number, 0 or more")
  return step


def check_optional_name(name: str, what: str) -> None:
  """Raise a ValueError unless this is a name, or empty for none.

  Args:
    name: 1 to 128 letters, digits and `._:/+@=-`.
    what: What it names, for the error message.
  """
  if name != "" and not is_name(name):
    raise ValueError(
      f"{what}={name!r:.160}: 1 to 128 letters, digits or ._:/+@=-, beginning "
      "with a letter or a digit"
    )


def as_recipients(
  recipients: Recipient | Iterable[Recipient],
) -> list[Recipient]:
  """Return one or several recipients as a list.

  Raises:
    TypeError: If one of them is not a recipient.
  """
  return _as_list(
    recipients, method="wrap", kind="a recipient", parser="parse_recipient"
  )


def as_identities(
  identities: Identity | Iterable[Identity],
) -> list[Identity]:
  """Return one or several identities as a list.

  Raises:
    TypeError: If one of them is not an identity.
  """
  return _as_list(
    identities, method="unwrap", kind="an identity", parser="read_key"
  )


def _as_list(values: Any, *, method: str, kind: str, parser: str) -> list[Any]:
  single = isinstance(values, str | bytes | Mapping)
  several = isinstance(values, Iterable) and not single
  found = list(values) if several else [values]
  for one in found:
    if not (hasattr(one, "id") and callable(getattr(one, method, None))):
      name = type(one).__name__
      hint = _hint(one, kind, parser)
      raise TypeError(f"a {name} is not {kind}{hint}")
  return found


def _hint(value: Any, kind: str, parser: str) -> str:
  """Return what to do with something that was given as a key."""
  if isinstance(value, Secret):
    return ": use keyring.SymmetricKey of it"
  if isinstance(value, str):
    return f": use keyring.{parser} of it"
  if isinstance(value, os.PathLike):
    return f": read the file and use keyring.{parser} of it"
  if isinstance(value, keys.Key):
    return ": the key of a scheme opens no checkpoint; see keyjax.keyring"
  if isinstance(value, Keyring):
    make = "recipient()" if kind == "a recipient" else "identities()"
    return f": give its {make}"
  if kind == "an identity" and hasattr(value, "wrap"):
    return ": it only seals; give the private key that opens"
  return "; see keyjax.keyring"
