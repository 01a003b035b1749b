"""Restoring the tiers that some keys open."""

import functools
import os
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
from optax import MaskedNode

from keyjax.aes.host import Impl
from keyjax.checkpoint.errors import CheckpointContentError
from keyjax.checkpoint.format.signature import VerifyKey
from keyjax.checkpoint.restoring import restore_opened
from keyjax.keyring import Identity
from keyjax.tiers.merging import merge
from keyjax.tiers.opening import (
  Expected,
  OpenedTiers,
  named_tiers,
  open_tiers,
)
from keyjax.tree import path_str


class Unlocked(NamedTuple):
  """What some keys open of a checkpoint with tiers.

  Attributes:
    params: The leaves that opened. Where one is missing there is nothing, or,
      if `like` was given, `optax.MaskedNode()`: no array, and no leaf.
    present: Whether each tier opened, by name; what a model is told.
  """

  params: Any
  present: dict[str, bool]

  @property
  def mask(self) -> Any:
    """Tree of `params` with True for a leaf and False for a missing one."""
    return jax.tree.map(
      lambda x: not _is_missing(x), self.params, is_leaf=_is_missing
    )


def _is_missing(x: Any) -> bool:
  return isinstance(x, MaskedNode)


def restore(
  path: str | os.PathLike[str],
  identities: Identity | Iterable[Identity],
  like: Any = None,
  *,
  tiers: Iterable[str] | None = None,
  step: int | None = None,
  name: str | None = None,
  run: str | None = None,
  verify_key: VerifyKey | None = None,
  impl: Impl = "auto",
) -> Unlocked:
  """Read and open the tiers that some keys open.

  Args:
    path: Folder of the checkpoint.
    identities: Keys; each opens the tiers that it is a recipient of, and the
      lower ones that these open.
    like: Structure, shapes, dtypes and shardings of the whole tree; see
      `checkpoint.restore`. None gives the tree as it was saved, without what
      is missing and without empty nodes; a list of which no tier has a leaf of
      each element is a dict by position.
    tiers: Tiers that must open, and are read alone; None for all that open.
    step: Expected training step.
    name: Expected name of the model.
    run: Expected id of the training run.
    verify_key: Public key whose signature every tier must have.
    impl: See `checkpoint.restore`.

  Returns:
    The leaves, bit for bit as they were saved, and which tiers opened.

  Raises:
    FileNotFoundError: If there is no complete checkpoint, or a tier is gone.
    KeyringError: If no tier opens, one of `tiers` does not, or a recipient's
      key fails.
    CheckpointError: If a tier is damaged, is none of the tiers that were saved
      together, or is not as expected.
    ArgumentError: If there is no such tier.
  """
  expected = Expected(step, name, run, verify_key)
  tiers = named_tiers(tiers)
  found = open_tiers(path, identities, tiers=tiers, expected=expected)
  if tiers is not None:
    kept = {x: one for x, one in found.tiers.items() if x in tiers}
    found = found._replace(tiers=kept)
  present = {x: x in found.tiers for x in found.listed.folders}
  if like is not None:
    return Unlocked(_restore_like(found, like, impl), present)
  trees = [restore_opened(x, None, None, impl) for x in found.tiers.values()]
  return Unlocked(functools.reduce(merge, trees), present)


def _restore_like(found: OpenedTiers, like: Any, impl: Impl) -> Any:
  """Return the tree of `like`, with what is missing replaced by no leaf."""
  with_paths, treedef = jax.tree_util.tree_flatten_with_path(like)
  wanted = {path_str(path): x for path, x in with_paths}
  leaves: dict[str, Any] = {}
  for opened in found.tiers.values():
    paths = {leaf.path for leaf in opened.manifest.leaves}
    if twice := sorted(paths & set(leaves)):
      raise CheckpointContentError(f"two tiers hold {twice[0]}")
    # A flat dict has the paths of its keys.
    part = {path: x for path, x in wanted.items() if path in paths}
    leaves |= restore_opened(opened, part, None, impl)
  if len(found.tiers) == len(found.listed.folders):
    for path in sorted(set(wanted) - set(leaves)):
      raise CheckpointContentError(
        f"leaf {path} is in no tier of {found.listed.path}"
      )
  return jax.tree.unflatten(
    treedef, [leaves.get(path, MaskedNode()) for path in wanted]
  )
