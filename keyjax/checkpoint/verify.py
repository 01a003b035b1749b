"""What can be said of a checkpoint, without a key and with one."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from keyjax.checkpoint.errors import CheckpointError
from keyjax.checkpoint.format import layout
from keyjax.checkpoint.format import signature as signing
from keyjax.checkpoint.format.manifest import part_context
from keyjax.checkpoint.parts import sealing
from keyjax.checkpoint.session import MOST_MANIFEST, Session, begin
from keyjax.checkpoint.storage import store
from keyjax.keyring import (
  Identity,
  Keyring,
  inspect_envelope,
  trace_licensee,
)
from keyjax.keyring.data_keys import leaf_key
from keyjax.seal import (
  HEADER_BYTES,
  SEALED_CHUNK_BYTES,
  Opener,
  SealError,
)


class Problem(NamedTuple):
  """Something that is wrong with a checkpoint.

  Attributes:
    where: a leaf's path, `padding`, `signature`, `manifest` or `header`.
    what: one sentence.
  """

  where: str
  what: str


def trace(path: str | os.PathLike[str], keyring: Keyring) -> str | None:
  """Tells whose copy a leaked checkpoint is, without a key that opens it.

  The envelope names its recipients; where that was replaced, the salts of the
  messages still bear the mark that `save(..., salt=licensee.salt)` gave them.
  Whoever opens the copy and seals or ships it anew leaves no mark.

  Args:
    path: its folder.
    keyring: what issued the licensees.

  Returns:
    The licensee's name; None if it is nobody's copy.

  Raises:
    FileNotFoundError, CheckpointError: it is no sealed checkpoint.
  """
  opened = store.Store(path)
  manifest = opened.small("manifest", MOST_MANIFEST)
  licensees = keyring.issued()
  found = trace_licensee(opened.envelope, licensees)
  return found or trace_licensee(manifest, licensees)


def inspect(
  path: str | os.PathLike[str],
  identities: Identity | Iterable[Identity] | None = None,
) -> dict[str, Any]:
  """Returns what can be read of a checkpoint.

  Args:
    path: its folder.
    identities: keys; without them, what a stranger learns.

  Returns:
    `format`, `version`, `bytes` (as stored) and `envelope` (ids; nothing of it
    is authenticated). With keys also `id`, `step`, `metadata`, `signed`,
    `processes` and `leaves`: path, dtype, shape, bytes, parts.

  Raises:
    FileNotFoundError, KeyringError, CheckpointError: as `restore`.
  """
  opened = store.Store(path)
  out: dict[str, Any] = {
    "format": store.FORMAT,
    "version": store.VERSION,
    "bytes": opened.size(),
    "envelope": inspect_envelope(opened.envelope),
  }
  if identities is None:
    return out
  found = begin(path, identities).manifest
  leaves = [
    {
      "path": leaf.path,
      "dtype": leaf.dtype,
      "shape": list(leaf.shape),
      "bytes": int(np.prod(leaf.shape, dtype=np.int64)) * leaf.itemsize,
      "parts": len(leaf.parts),
    }
    for leaf in found.leaves
  ]
  return out | {
    "id": found.id,
    "step": found.step,
    "metadata": found.metadata,
    "signed": found.digests is not None,
    "processes": found.streams.rows,
    "leaves": leaves,
  }


def verify(
  path: str | os.PathLike[str],
  identities: Identity | Iterable[Identity],
  *,
  verify_key: signing.VerifyKey | None = None,
) -> list[Problem]:
  """Opens every chunk of a checkpoint, the padding too.

  Args:
    path: its folder.
    identities: keys, of which one opens it.
    verify_key: whose signature it must bear.

  Returns:
    What is wrong and where; nothing when all is as it was saved.

  Raises:
    FileNotFoundError: there is no whole checkpoint at `path`.
    KeyringError: no identity opens it.
    CheckpointError: its header or its manifest cannot be read, or it is not
      signed with this key.
  """
  opened = begin(path, identities, verify_key=verify_key)
  return [*_signature(opened), *_leaves(opened), *_padding(opened)]


def _signature(opened: Session) -> Iterator[Problem]:
  try:
    sealed = opened.store.small("signature", signing.SIZE)
    signing.read(opened.data_key, opened.manifest.id, sealed)
  except CheckpointError as error:
    yield Problem("signature", str(error))


def _leaves(opened: Session) -> Iterator[Problem]:
  found, number = opened.manifest, 0
  for leaf in found.leaves:
    key = leaf_key(opened.data_key, "leaf", leaf.path)
    for part in leaf.parts:
      digest = found.digests[number] if found.digests else ""
      bound = part_context(found, leaf, part)
      wrong = _message(
        opened, part.stream, part.offset, part.size, key, bound, digest
      )
      number += 1
      if wrong:
        at = f"{list(part.start)} to {list(part.stop)}, " if part.shape else ""
        yield Problem(leaf.path, at + wrong)


def _padding(opened: Session) -> Iterator[Problem]:
  found = opened.manifest
  for row, used in enumerate(found.used):
    key = leaf_key(opened.data_key, "padding", str(row))
    for offset, size in layout.padding(used, found.streams.size):
      bound = sealing.padding_context(found, row, offset)
      if wrong := _message(opened, row, offset, size, key, bound, ""):
        yield Problem("padding", wrong)


def _message(
  opened: Session,
  row: int,
  offset: int,
  size: int,
  key: bytes,
  bound: bytes,
  digest: str,
) -> str:
  """Returns what is wrong with a message: nothing, or one line."""
  message = np.empty(size, np.uint8)
  try:
    opened.store.fetch(opened.manifest.streams, row, offset, message)()
  except CheckpointError as error:
    return f"cannot be read: {error}"
  try:
    opener = Opener(key, message[:HEADER_BYTES].data, bound)
  except SealError:
    return "the message's header is damaged, or it is another message"
  body, step = message[HEADER_BYTES:].data, SEALED_CHUNK_BYTES
  wrong = []
  for i in range(-(-len(body) // step)):
    try:
      opener.open_chunk(i, body[i * step : (i + 1) * step])
    except SealError:
      wrong.append(i)
  if wrong:
    shown = ", ".join(map(str, wrong[:8])) + (", ..." if wrong[8:] else "")
    return f"of {i + 1} chunks these do not open: {shown}"
  if digest and hashlib.sha256(message.data).hexdigest() != digest:
    return "it opens, and is not what was signed"
  return ""
