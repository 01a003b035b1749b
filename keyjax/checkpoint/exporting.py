"""Opening a checkpoint into weight files."""

import os
from collections.abc import Iterable, Mapping

from keyjax.checkpoint.format.signature import VerifyKey
from keyjax.checkpoint.opened import open_checkpoint
from keyjax.checkpoint.parts.selection import LeafSelection
from keyjax.checkpoint.weight_formats import check_new, checked_format
from keyjax.checkpoint.weights import safetensors_export
from keyjax.keyring import Identity


def export_weights(
  path: str | os.PathLike[str],
  target: str | os.PathLike[str],
  identities: Identity | Iterable[Identity],
  *,
  kind: str | None = None,
  leaves: LeafSelection | None = None,
  step: int | None = None,
  name: str | None = None,
  run: str | None = None,
  verify_key: VerifyKey | None = None,
  metadata: Mapping[str, str] | None = None,
  shard_bytes: int | None = None,
) -> int:
  """Open a checkpoint and write it unencrypted, readable only by its owner.

  See `write_weights` for the modes of files and folders. Safetensors files are
  written one leaf at a time; a checkpoint that `import_weights` made of them
  becomes the same bytes.

  Args:
    path: Folder of the checkpoint.
    target: New file that ends in `.safetensors` (names with dots) or
      `.msgpack`, or else a new folder for a plain Orbax checkpoint.
    identities: Keys, one of which opens it.
    kind: One of `WEIGHT_FORMATS`, whatever the suffix. With "safetensors", a
      checkpoint that was sealed from several files with an index becomes such
      a folder again, unless `target` ends in `.safetensors`.
    leaves: Leaves to export; see `restore`.
    step: Expected training step.
    name: Expected name of the model.
    run: Expected id of the training run.
    verify_key: Public key whose signature is required.
    metadata: `__metadata__` of safetensors files, instead of that of the file
      that was sealed.
    shard_bytes: Maximum size of each safetensors file; see `write_weights`.

  Returns:
    The number of leaves.

  Raises:
    FileExistsError: If something is at `target`.
    ArgumentError: If no leaf matches.
    ValueError: If the format cannot hold such a tree.
    FileNotFoundError, KeyringError, CheckpointError: As `restore`.
  """
  kind = checked_format(target, kind, metadata, shard_bytes)
  check_new(target, kind)
  opened = open_checkpoint(
    path, identities, step=step, name=name, run=run, verify_key=verify_key
  )
  if kind == "safetensors":
    return safetensors_export.write_opened(
      target, opened, leaves, metadata, shard_bytes
    )
  # Not at the top: safetensors files need no JAX.
  import jax

  from keyjax.checkpoint.restoring import restore_opened
  from keyjax.checkpoint.weight_files import write_weights

  tree = restore_opened(opened, None, leaves, "auto")
  write_weights(target, tree, kind)
  return len(jax.tree.leaves(tree))
