"""What can be read of a checkpoint, without and with a key."""

import os
from collections.abc import Iterable
from typing import Any

from keyjax.checkpoint.storage import header, locations
from keyjax.keyring import Identity, inspect_envelope


def read_envelope(path: str | os.PathLike[str]) -> bytes:
  """Return the envelope of a checkpoint, for functions of `keyjax.keyring`.

  Args:
    path: Folder of the checkpoint.

  Raises:
    FileNotFoundError, CheckpointError: If it is not a sealed checkpoint.
  """
  return header.read(header.find(path))


def inspect(
  path: str | os.PathLike[str],
  identities: Identity | Iterable[Identity] | None = None,
) -> dict[str, Any]:
  """Return what can be read of a checkpoint.

  Args:
    path: Folder of the checkpoint.
    identities: Keys; None for what anyone can read.

  Returns:
    `format`, `version`, `bytes` (as stored) and `envelope` (ids); none of this
    is authenticated. With keys also `id`, `step`, `name`, `run` (empty if none
    was given to `save`), `metadata`, `signed`, `processes` and `leaves`: path,
    dtype, shape, bytes, parts. If it was sealed from safetensors files,
    `origin` has their names and `__metadata__`.

  Raises:
    FileNotFoundError, KeyringError, CheckpointError: As `restore`.
  """
  place = header.find(path)
  public = {
    "format": header.FORMAT,
    "version": header.VERSION,
    "bytes": locations.size(place),
    "envelope": inspect_envelope(header.read(place)),
  }
  if identities is None:
    return public
  # Not at the top: it loads JAX, which what is public does not need.
  from keyjax.checkpoint.opened import open_checkpoint
  from keyjax.checkpoint.verifying import describe

  return public | describe(open_checkpoint(path, identities).manifest)
