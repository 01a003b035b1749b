"""Restoring sealed checkpoints; see the package's text."""

import os
from collections.abc import Iterable
from typing import Any

from keyjax.aes.host import Impl
from keyjax.checkpoint.format import tree_structure
from keyjax.checkpoint.format.signature import VerifyKey
from keyjax.checkpoint.opened import OpenedCheckpoint, open_checkpoint
from keyjax.checkpoint.parts.opening import open_boxes
from keyjax.checkpoint.parts.restore_plan import RestorePlan, plan_restore
from keyjax.checkpoint.parts.sealing import check_impl
from keyjax.checkpoint.parts.selection import LeafSelection, select_leaves
from keyjax.keyring import Identity


def restore(
  path: str | os.PathLike[str],
  identities: Identity | Iterable[Identity],
  like: Any = None,
  *,
  leaves: LeafSelection | None = None,
  step: int | None = None,
  name: str | None = None,
  run: str | None = None,
  verify_key: VerifyKey | None = None,
  impl: Impl = "auto",
) -> Any:
  """Read and open a checkpoint, or some of its leaves.

  Only the chunks that hold the requested values are read and opened.

  Args:
    path: Folder of the checkpoint.
    identities: Keys, one of which opens it.
    like: Requested structure, shapes, dtypes and shardings: arrays or
      `jax.ShapeDtypeStruct`, on any mesh. None gives the tree as it was
      saved, on one device, with dicts for nodes of other types.
    leaves: Paths, or a regular expression for whole paths; `like` then has
      only these leaves.
    step: Expected training step.
    name: Expected name of the model, as it was given to `save`.
    run: Expected id of the training run; one that was not recorded differs.
    verify_key: Public key whose signature is required.
    impl: "device" opens arrays on their devices, "host" on the host; "auto"
      is "device" on accelerators.

  Returns:
    The tree, bit for bit as it was saved.

  Raises:
    FileNotFoundError: If there is no complete checkpoint at `path`.
    KeyringError: If no identity opens it.
    CheckpointError: If it is damaged or was altered (the message names the
      leaf), is of another tree, step, model or run, or is not signed with this
      key.
    ArgumentError: If a requested leaf does not exist.
  """
  opened = open_checkpoint(
    path, identities, step=step, name=name, run=run, verify_key=verify_key
  )
  return restore_opened(opened, like, leaves, impl)


def restore_opened(
  opened: OpenedCheckpoint, like: Any, leaves: LeafSelection | None, impl: Impl
) -> Any:
  """Read leaves of an opened checkpoint; see `restore`."""
  check_impl(impl)
  numbers = select_leaves(opened.manifest, leaves)
  plan = plan_restore(opened.manifest, numbers, like, impl)
  return plan.build(_read_leaves(opened, plan))


def restore_child(
  opened: OpenedCheckpoint, name: str, like: Any, impl: Impl
) -> Any:
  """Read what a tree, which is a dict, has under a name.

  Unlike some leaves of a tree, the whole child is as it was saved, with nodes
  that have no leaves.

  Raises:
    CheckpointContentError: If there is no such name, or `like` differs.
  """
  check_impl(impl)
  manifest = opened.manifest
  node, numbers = tree_structure.child(manifest.tree, name)
  if like is None:
    leaves = _read_leaves(opened, plan_restore(manifest, numbers, None, impl))
    by_number = dict(zip(numbers, leaves, strict=True))
    return tree_structure.rebuild(node, by_number, len(numbers))
  plan = plan_restore(manifest, numbers, {name: like}, impl)
  return plan.build(_read_leaves(opened, plan))[name]


def _read_leaves(opened: OpenedCheckpoint, plan: RestorePlan) -> list[Any]:
  boxes_by_leaf = open_boxes(opened, plan.requests)
  return [
    assemble(boxes)
    for assemble, boxes in zip(plan.assemble, boxes_by_leaf, strict=True)
  ]


def read_metadata(
  path: str | os.PathLike[str],
  identities: Identity | Iterable[Identity],
  *,
  step: int | None = None,
  name: str | None = None,
  run: str | None = None,
  verify_key: VerifyKey | None = None,
) -> dict[str, Any]:
  """Return the metadata that was given to `save`, without reading leaves.

  Args:
    path: Folder of the checkpoint.
    identities: Keys, one of which opens it.
    step: Expected training step.
    name: Expected name of the model, as it was given to `save`.
    run: Expected id of the training run; one that was not recorded differs.
    verify_key: Public key whose signature is required; without it, a recipient
      may have written other metadata.

  Raises:
    FileNotFoundError, KeyringError, CheckpointError: As `restore`.
  """
  opened = open_checkpoint(
    path, identities, step=step, name=name, run=run, verify_key=verify_key
  )
  return opened.manifest.metadata
