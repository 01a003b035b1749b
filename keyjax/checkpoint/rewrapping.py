"""New recipients, or a new data key, for an existing checkpoint."""

import os
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from keyjax.checkpoint.checks import as_identities, as_recipients
from keyjax.checkpoint.errors import (
  CheckpointSignatureError,
  storage_error,
)
from keyjax.checkpoint.format import layout
from keyjax.checkpoint.format import signature as signatures
from keyjax.checkpoint.format.manifest import (
  Leaf,
  Manifest,
  part_context,
  unset_digests,
)
from keyjax.checkpoint.opened import OpenedCheckpoint, open_checkpoint
from keyjax.checkpoint.parts import opening, reading, sealing
from keyjax.checkpoint.parts.damage import damaged
from keyjax.checkpoint.saving import seal_messages
from keyjax.checkpoint.storage import folders, header, orbax_writer, processes
from keyjax.checkpoint.storage.locations import absolute_path
from keyjax.checkpoint.storage.sealed_files import SealedFiles
from keyjax.keyring import Identity, Recipient, rewrap_envelope
from keyjax.keyring.data_keys import leaf_key
from keyjax.keyring.rewrap import next_revoked
from keyjax.seal import Opener, SealError, size_of_plain


def rewrap(
  path: str | os.PathLike[str],
  identities: Identity | Iterable[Identity],
  recipients: Recipient | Iterable[Recipient],
  *,
  revoked: Iterable[str] = (),
  reinstate: bool = False,
) -> None:
  """Replace the recipients of a checkpoint; only its envelope is written.

  Use it to add a recipient, or to rotate a key that did not leak. It does not
  revoke: anyone who could open the checkpoint may have kept its data key or
  the old envelope; see `reencrypt`. A kill at any point leaves the old
  envelope or the new one. In a bucket one object is replaced; if the bucket
  keeps versions, the old one remains. If another process changes the recipients
  at the same time, one of the two gets an error and changes nothing.

  Args:
    path: Folder of the checkpoint.
    identities: Keys, one of which opens it.
    recipients: All recipients who can open it from now on.
    revoked: Ids of former recipients, who get an error that says so.
    reinstate: Whether a revoked recipient may be a recipient again.

  Raises:
    FileNotFoundError: If there is no complete checkpoint at `path`.
    KeyringError: If no identity opens it, or a recipient cannot be used or was
      revoked.
    CheckpointStorageError: If the folder cannot be written.
  """
  files = SealedFiles(path)
  envelope = rewrap_envelope(
    files.envelope,
    as_identities(identities),
    as_recipients(recipients),
    revoked=revoked,
    reinstate=reinstate,
  )
  try:
    header.replace(files.path, envelope, before=files.envelope)
  except OSError as error:
    raise storage_error(f"could not rewrap {files.path}", error) from None


def reencrypt(
  path: str | os.PathLike[str],
  new_path: str | os.PathLike[str],
  identities: Identity | Iterable[Identity],
  recipients: Recipient | Iterable[Recipient],
  *,
  revoked: Iterable[str] = (),
  reinstate: bool = False,
  signer: signatures.Signer | None = None,
  verify_key: signatures.VerifyKey | None = None,
  salt: sealing.Salt = sealing.random_salt,
) -> None:
  """Write a checkpoint again under a new data key, as revocation needs.

  One part after another is opened and sealed again, so that memory does not
  grow with the checkpoint. The copy has a new id and the same step, name, run
  and metadata. Then delete the old folder and its copies: a revoked recipient
  can open those forever.

  Every recipient can replace weights in the old checkpoint, and a signature
  vouches for all of them. So with a signer the old one must be signed too, by
  the same key unless `verify_key` names another.

  Args:
    path: Folder of the checkpoint.
    new_path: New folder.
    identities: Keys, one of which opens the old one.
    recipients: Recipients of the new one.
    revoked: Ids to add to those that the old envelope lists as revoked.
    reinstate: Whether a revoked recipient may be a recipient again.
    signer: Private key to sign with; a signature does not carry over.
    verify_key: Public key whose signature the old one must have; by default
      that of the signer, if there is one.
    salt: Returns the salt of each message; see `save`.

  Raises:
    FileNotFoundError: If there is no complete checkpoint at `path`.
    FileExistsError: If `new_path` exists.
    KeyringError: If no identity opens it, or a recipient cannot be used or was
      revoked.
    CheckpointSignatureError: If it is not signed as required.
    CheckpointContentError: If it is damaged.
    CheckpointStorageError: If the new one cannot be written.
    ValueError: If it is called with several processes.
  """
  if jax.process_count() > 1:
    raise ValueError(
      "reencrypt runs in one process, however many wrote the checkpoint"
    )
  folder = absolute_path(new_path)
  folders.check_absent(folder)
  signatures.check_signer(signer)
  recipients = as_recipients(recipients)
  old = _open_to_sign(path, identities, signer, verify_key)
  write_again(
    old,
    folder,
    recipients,
    revoked=revoked,
    reinstate=reinstate,
    signer=signer,
    salt=salt,
  )


def write_again(
  old: OpenedCheckpoint,
  folder: Any,
  recipients: list[Recipient],
  *,
  revoked: Iterable[str],
  reinstate: bool,
  signer: signatures.Signer | None,
  salt: sealing.Salt = sealing.random_salt,
  data_key: bytes | None = None,
) -> None:
  """Write an opened checkpoint to a new folder, as `reencrypt` does.

  A `data_key` that is given is of the new checkpoint alone.
  """
  revoked = next_revoked(
    old.files.envelope, recipients, revoked, reinstate=reinstate
  )
  checkpoint, fresh_key = processes.new_id_and_data_key()
  data_key = data_key or fresh_key
  manifest = _in_one_stream(old.manifest, checkpoint, signed=signer is not None)
  sealed = seal_messages(
    manifest,
    data_key,
    recipients,
    _sealed_again(old, manifest, data_key, salt),
    signer,
    lazy=True,
    salt=salt,
    revoked=revoked,
  )
  orbax_writer.write(folder, sealed)


def _open_to_sign(
  path: str | os.PathLike[str],
  identities: Identity | Iterable[Identity],
  signer: signatures.Signer | None,
  verify_key: signatures.VerifyKey | None,
) -> OpenedCheckpoint:
  """Open a checkpoint whose content a signer, if there is one, vouches for."""
  required = verify_key
  if signer is not None and verify_key is None:
    required = signer.public_key()
  try:
    return open_checkpoint(path, identities, verify_key=required)
  except CheckpointSignatureError as error:
    if verify_key is not None:
      raise
    raise CheckpointSignatureError(
      f"{error}: any recipient may have changed {path}, so it is not signed "
      "again; give verify_key, the key of who signed it, or no signer"
    ) from None


def _in_one_stream(old: Manifest, checkpoint: str, signed: bool) -> Manifest:
  """Return the manifest of the same leaves, in one stream."""
  boxes = [[(*p.box, 0) for p in leaf.parts] for leaf in old.leaves]
  itemsizes = [leaf.itemsize for leaf in old.leaves]
  parts, used = layout.assign_offsets(boxes, itemsizes, 1)
  leaves = tuple(
    leaf._replace(parts=tuple(leaf_parts))
    for leaf, leaf_parts in zip(old.leaves, parts, strict=True)
  )
  return old._replace(
    id=checkpoint,
    leaves=leaves,
    streams=layout.choose_streams(used),
    digests=unset_digests(leaves) if signed else None,
  )


def _sealed_again(
  old: OpenedCheckpoint, manifest: Manifest, data_key: bytes, salt: sealing.Salt
) -> Iterator[sealing.Message]:
  """Open each part, to be sealed under the new key when it is due."""
  numbered = [
    (i, part)
    for i, leaf in enumerate(old.manifest.leaves)
    for part in leaf.parts
  ]
  reads = [
    reading.whole_part(number, leaf, part)
    for number, (leaf, part) in enumerate(numbered)
  ]
  new_parts = [part for leaf in manifest.leaves for part in leaf.parts]
  streams = old.manifest.streams
  for found in reading.read_parts(old.files, streams, reads):
    leaf = old.manifest.leaves[found.read.leaf]
    part = new_parts[found.read.number]
    if old.check_digests:
      opening.check_digest(old.manifest, leaf, found)
    plain = _open_part(old, leaf, found)
    seal_part = sealing.seal_plain(
      plain.data,
      key=leaf_key(data_key, "leaf", leaf.path),
      context=part_context(manifest, leaf, part),
      salt=salt,
    )
    yield sealing.Message(part.size, seal_part)
  yield from sealing.padding_messages(manifest, data_key, 0, salt)


def _open_part(
  old: OpenedCheckpoint, leaf: Leaf, found: reading.ReadPart
) -> np.ndarray:
  """Return the plaintext of a part, uint8[n]."""
  part = found.read.part
  plain = np.empty(size_of_plain(part.size), np.uint8)
  key = leaf_key(old.data_key, "leaf", leaf.path)
  try:
    opener = Opener(key, found.header, part_context(old.manifest, leaf, part))
    opener.open_into(0, found.chunks, plain.data)
  except SealError:
    raise damaged(leaf, part) from None
  return plain
