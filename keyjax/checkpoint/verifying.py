"""What a key tells about a checkpoint: content, damage, licensee."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from keyjax.checkpoint.errors import CheckpointError
from keyjax.checkpoint.format import layout
from keyjax.checkpoint.format import signature as signatures
from keyjax.checkpoint.format.manifest import (
  Manifest,
  padding_context,
  part_context,
)
from keyjax.checkpoint.format.manifest_json import MAX_SEALED_SIZE
from keyjax.checkpoint.opened import OpenedCheckpoint, open_checkpoint
from keyjax.checkpoint.storage.sealed_files import SealedFiles
from keyjax.keyring import (
  Identity,
  Keyring,
  trace_licensee,
)
from keyjax.keyring.data_keys import leaf_key
from keyjax.seal import HEADER_BYTES, SEALED_CHUNK_BYTES, Opener, SealError


class Problem(NamedTuple):
  """A defect of a checkpoint.

  Attributes:
    where: Path of a leaf, `padding`, `signature`, `manifest` or `header`.
    what: Description, one sentence.
  """

  where: str
  what: str


def trace(path: str | os.PathLike[str], keyring: Keyring) -> str | None:
  """Return the licensee of a leaked copy, without a key that opens it.

  The envelope names its recipients. If it was replaced, the salts of the
  messages still carry the mark of `save(..., salt=licensee.salt)`. Someone who
  opens the copy and seals or publishes it again leaves no mark.

  Args:
    path: Folder of the checkpoint.
    keyring: Keyring that issued the licensees.

  Returns:
    The licensee's name; None if it is not a licensee's copy.

  Raises:
    FileNotFoundError, CheckpointError: If it is not a sealed checkpoint.
  """
  files = SealedFiles(path)
  manifest = files.read_small("manifest", MAX_SEALED_SIZE)
  licensees = keyring.issued()
  found = trace_licensee(files.envelope, licensees)
  return found or trace_licensee(manifest, licensees)


def describe(manifest: Manifest) -> dict[str, Any]:
  """Return what `inspect` shows of an opened checkpoint."""
  leaves = [
    {
      "path": leaf.path,
      "dtype": leaf.dtype,
      "shape": list(leaf.shape),
      "bytes": int(np.prod(leaf.shape, dtype=np.int64)) * leaf.itemsize,
      "parts": len(leaf.parts),
    }
    for leaf in manifest.leaves
  ]
  found = {
    "id": manifest.id,
    "step": manifest.step,
    "name": manifest.name,
    "run": manifest.run,
    "metadata": manifest.metadata,
    "signed": manifest.digests is not None,
    "processes": manifest.streams.processes,
    "leaves": leaves,
  }
  if manifest.origin is not None:
    found["origin"] = [
      {"metadata": dict(file.metadata or ()), "name": file.name}
      for file in manifest.origin.files
    ]
  return found


def verify(
  path: str | os.PathLike[str],
  identities: Identity | Iterable[Identity],
  *,
  step: int | None = None,
  name: str | None = None,
  run: str | None = None,
  verify_key: signatures.VerifyKey | None = None,
) -> list[Problem]:
  """Open every chunk of a checkpoint, including the padding.

  Args:
    path: Folder of the checkpoint.
    identities: Keys, one of which opens it.
    step: Expected training step.
    name: Expected name of the model.
    run: Expected id of the training run.
    verify_key: Public key whose signature is required.

  Returns:
    Every defect and where it is; empty if all is as it was saved.

  Raises:
    FileNotFoundError: If there is no complete checkpoint at `path`.
    KeyringError: If no identity opens it.
    CheckpointError: If its header or its manifest cannot be read, or it is of
      another step, model or run, or not signed with this key.
  """
  opened = open_checkpoint(
    path, identities, step=step, name=name, run=run, verify_key=verify_key
  )
  return [
    *_check_signature(opened),
    *_check_leaves(opened),
    *_check_padding(opened),
  ]


def _check_signature(opened: OpenedCheckpoint) -> Iterator[Problem]:
  try:
    sealed = opened.files.read_small("signature", signatures.SEALED_SIZE)
    signatures.read_signature(opened.data_key, opened.manifest.id, sealed)
  except CheckpointError as error:
    yield Problem("signature", str(error))


def _check_leaves(opened: OpenedCheckpoint) -> Iterator[Problem]:
  manifest = opened.manifest
  number = 0
  for leaf in manifest.leaves:
    key = leaf_key(opened.data_key, "leaf", leaf.path)
    for part in leaf.parts:
      found = _check_message(
        opened,
        stream=part.stream,
        offset=part.offset,
        size=part.size,
        key=key,
        context=part_context(manifest, leaf, part),
        digest=manifest.digests[number] if manifest.digests else "",
      )
      number += 1
      if found:
        at = f"{list(part.start)} to {list(part.stop)}, " if part.shape else ""
        yield Problem(leaf.path, at + found)


def _check_padding(opened: OpenedCheckpoint) -> Iterator[Problem]:
  manifest = opened.manifest
  for stream, used in enumerate(manifest.used):
    key = leaf_key(opened.data_key, "padding", str(stream))
    for offset, size in layout.padding_messages(used, manifest.streams.size):
      found = _check_message(
        opened,
        stream=stream,
        offset=offset,
        size=size,
        key=key,
        context=padding_context(manifest, stream, offset),
        digest="",
      )
      if found:
        yield Problem("padding", found)


def _check_message(
  opened: OpenedCheckpoint,
  *,
  stream: int,
  offset: int,
  size: int,
  key: bytes,
  context: bytes,
  digest: str,
) -> str:
  """Return the defect of a message in one line, or an empty string."""
  message = np.empty(size, np.uint8)
  streams = opened.manifest.streams
  try:
    opened.files.start_read(streams, stream, offset, message)()
  except CheckpointError as error:
    return f"cannot be read: {error}"
  try:
    opener = Opener(key, message[:HEADER_BYTES].data, context)
  except SealError:
    return "the message's header is damaged, or it is another message"
  damaged, count = _damaged_chunks(opener, message[HEADER_BYTES:].data)
  if damaged:
    shown = ", ".join(map(str, damaged[:8])) + (", ..." if damaged[8:] else "")
    return f"of {count} chunks these do not open: {shown}"
  if digest and hashlib.sha256(message.data).hexdigest() != digest:
    return "it opens, and is not what was signed"
  return ""


def _damaged_chunks(
  opener: Opener, chunks: memoryview
) -> tuple[list[int], int]:
  """Return the numbers of the chunks that do not open, and their count."""
  step = SEALED_CHUNK_BYTES
  count = -(-len(chunks) // step)
  damaged = []
  for i in range(count):
    try:
      opener.open_chunk(i, chunks[i * step : (i + 1) * step])
    except SealError:
      damaged.append(i)
  return damaged, count
