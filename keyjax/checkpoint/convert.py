"""Weights in the clear into sealed checkpoints, and out of them again."""

import os
from collections.abc import Iterable
from typing import Any

from keyjax.checkpoint import weight_files as formats
from keyjax.checkpoint.format import signature as signing
from keyjax.checkpoint.parts import placing
from keyjax.checkpoint.sealed import restore, save
from keyjax.keyring import Identity, Recipient


def import_weights(
  source: str | os.PathLike[str],
  path: str | os.PathLike[str],
  recipients: Recipient | Iterable[Recipient],
  *,
  step: int = 0,
  metadata: dict[str, Any] | None = None,
  signer: signing.Signer | None = None,
) -> None:
  """Seals weights of another format.

  Args:
    source: a file that ends in `.safetensors` or `.msgpack` (Flax), or the
      folder of a plain Orbax checkpoint; it stays where it is, in the clear.
    path: a folder that does not exist.
    recipients: who can open it.
    step: of the training.
    metadata: what fits into 1 MiB of JSON.
    signer: who signs it.

  Raises:
    FileNotFoundError: nothing is at `source`.
    ValueError: `source` is of no known format.
    CheckpointError: it is damaged, or the checkpoint cannot be written.
    FileExistsError, KeyringError: as `save`.

  Example:
    >>> import pathlib, tempfile, numpy as np
    >>> from safetensors.numpy import save_file
    >>> from keyjax import Secret
    >>> from keyjax.keyring import SymmetricKey
    >>> owner, folder = SymmetricKey(Secret.generate()), tempfile.mkdtemp()
    >>> save_file({"w": np.arange(3)}, f"{folder}/w.safetensors")
    >>> import_weights(f"{folder}/w.safetensors", f"{folder}/sealed", owner)
    >>> export_weights(f"{folder}/sealed", f"{folder}/w.msgpack", owner)
    >>> pathlib.Path(f"{folder}/w.msgpack").exists()
    True
  """
  tree = formats.read_weights(source)
  save(path, tree, recipients, step=step, metadata=metadata, signer=signer)


def export_weights(
  path: str | os.PathLike[str],
  target: str | os.PathLike[str],
  identities: Identity | Iterable[Identity],
  *,
  leaves: placing.Leaves | None = None,
  verify_key: signing.VerifyKey | None = None,
) -> None:
  """Opens a checkpoint and writes it in the clear; a file gets mode 600.

  Args:
    path: the checkpoint's folder.
    target: a file that ends in `.safetensors` (names with dots) or `.msgpack`,
      or else a folder for a plain Orbax checkpoint; nothing may be there.
    identities: keys, of which one opens it.
    leaves: which of them; see `restore`.
    verify_key: who must have signed it.

  Raises:
    FileExistsError: something is at `target`.
    ValueError: the format does not hold such a tree.
    FileNotFoundError, KeyringError, CheckpointError: as `restore`.
  """
  kind = formats.format_of(target, "orbax")
  formats.check_place(target, kind)
  tree = restore(path, identities, leaves=leaves, verify_key=verify_key)
  formats.write_weights(target, tree, kind)
