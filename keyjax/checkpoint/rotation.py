"""Other recipients for a checkpoint that is there, and other data keys."""

import datetime
import hashlib
import os
import pathlib
import tempfile
from collections.abc import Iterable

import jax
import numpy as np

from keyjax import seal
from keyjax.aes.cobblestone import Opener, SealError, seal_into
from keyjax.checkpoint import (
  agree,
  folders,
  layout,
  opening,
  reading,
  sealed,
  sealing,
  signing,
  store,
)
from keyjax.checkpoint.errors import flat
from keyjax.checkpoint.manifest import Manifest, part_context
from keyjax.checkpoint.session import Session, begin, several
from keyjax.keyring import Identity, Recipient, seal_envelope
from keyjax.keyring import rewrap as rewrap_envelope
from keyjax.keyring.leaves import leaf_key


def rewrap(
  path: str | os.PathLike[str],
  identities: Identity | Iterable[Identity],
  recipients: Recipient | Iterable[Recipient],
  *,
  revoked: Iterable[str] = (),
) -> None:
  """Gives a checkpoint other recipients; only its envelope is written.

  Right to add somebody, or to rotate a key that did not leak. Wrong to revoke:
  who could open the checkpoint may keep its data key, or the old envelope; see
  `reencrypt`. A kill at any point leaves the old envelope or the new one.

  Args:
    path: the checkpoint's folder.
    identities: keys, of which one opens it.
    recipients: everybody who can open it from now on.
    revoked: ids of former recipients, who are told so.

  Raises:
    FileNotFoundError: there is no whole checkpoint at `path`.
    KeyringError: no identity opens it, or a recipient cannot be used.
    CheckpointError: the folder cannot be written.
  """
  opened = store.Store(path)
  envelope = rewrap_envelope(
    opened.envelope, several(identities), several(recipients), revoked=revoked
  )
  try:
    store.replace_header(opened.path, envelope)
  except OSError as error:
    raise flat(f"could not rewrap {opened.path}", error) from None


def reencrypt(
  path: str | os.PathLike[str],
  new_path: str | os.PathLike[str],
  identities: Identity | Iterable[Identity],
  recipients: Recipient | Iterable[Recipient],
  *,
  signer: signing.Signer | None = None,
  verify_key: signing.VerifyKey | None = None,
) -> None:
  """Writes a checkpoint again under a new data key: what revocation needs.

  One part after the other is opened and sealed again; the new ciphertext goes
  by way of a nameless file beside the new folder, so memory does not grow with
  the checkpoint. It has a new id; step, metadata and layout stay. Delete the
  old folder then, and its copies: whoever was revoked can open those for ever.

  Args:
    path: the checkpoint's folder.
    new_path: a folder that does not exist.
    identities: keys, of which one opens it.
    recipients: who can open the new one.
    signer: who signs it; a signature does not carry over.
    verify_key: whose signature the old one must bear.

  Raises:
    FileNotFoundError: there is no whole checkpoint at `path`.
    FileExistsError: `new_path` exists.
    KeyringError: no identity opens it, or a recipient cannot be used.
    CheckpointError: it is damaged, or the new one cannot be written.
    ValueError: it was called in several processes.
  """
  if jax.process_count() > 1:
    raise ValueError("reencrypt runs in one process, whoever wrote it")
  target = pathlib.Path(new_path).absolute()
  folders.check_absent(target)
  signing.check_signer(signer)
  old = begin(path, identities, verify_key=verify_key)
  checkpoint, data_key = agree.new_checkpoint()
  new = _placed_anew(old.manifest, checkpoint, signer is not None)
  now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
  envelope = seal_envelope(
    data_key, several(recipients), checkpoint=checkpoint, created=now
  )
  try:
    folders.try_folder(target.parent)
    stream = _on_disk(target.parent, new.streams.size)
  except OSError as error:
    raise flat(f"could not write a checkpoint to {target}", error) from None
  digests = _copy(old, new, data_key, stream)
  if new.digests is not None:
    new = new._replace(digests=tuple(digests))
  sealed.write(target, *sealed.pack(new, data_key, envelope, stream, signer))


def _placed_anew(old: Manifest, checkpoint: str, signed: bool) -> Manifest:
  """Returns the manifest of the same leaves in one stream."""
  parts = [[(p.start, p.stop, 0) for p in leaf.parts] for leaf in old.leaves]
  placed, used = layout.place(parts, [x.itemsize for x in old.leaves], 1)
  leaves = tuple(
    leaf._replace(parts=tuple(p))
    for leaf, p in zip(old.leaves, placed, strict=True)
  )
  digests = ("0" * 64,) * sum(map(len, placed)) if signed else None
  return old._replace(
    id=checkpoint,
    leaves=leaves,
    streams=layout.streams(used),
    digests=digests,
  )


def _on_disk(folder: pathlib.Path, size: int) -> np.ndarray:
  """Returns uint8[size] in a file without a name; it goes with the array."""
  with tempfile.TemporaryFile(dir=folder) as file:
    os.posix_fallocate(file.fileno(), 0, size)  # Full disks are noticed here.
    return np.asarray(np.memmap(file, np.uint8, "r+", shape=(size,)))


def _copy(
  old: Session, new: Manifest, data_key: bytes, out: np.ndarray
) -> list[str]:
  """Opens each part and seals it again; returns the digests."""
  needs, number = [], 0
  for i, leaf in enumerate(old.manifest.leaves):
    for part in leaf.parts:
      box = (part.start, part.stop)
      one = reading.need(number, i, part, leaf.itemsize, [box], True)
      needs.append(one)
      number += 1
  places = [part for leaf in new.leaves for part in leaf.parts]
  digests = []
  found = reading.read(
    old.store, old.manifest.streams, [n for n in needs if n is not None]
  )
  for one, header, chunks in found:
    leaf = old.manifest.leaves[one.leaf]
    if old.signed:
      opening.check_digest(old.manifest, leaf, one, header, chunks)
    plain = np.empty(seal.size_of_plain(one.part.size), np.uint8)
    key = leaf_key(old.data_key, "leaf", leaf.path)
    try:
      opener = Opener(key, header, part_context(old.manifest, leaf, one.part))
      opener.into(0, chunks, plain.data)
    except SealError:
      raise opening.damaged(leaf, one.part) from None
    place = places[one.number]
    message = out[place.offset : place.offset + place.size]
    bound = part_context(new, new.leaves[one.leaf], place)
    seal_into(
      leaf_key(data_key, "leaf", leaf.path), plain.data, message.data, bound
    )
    digests.append(hashlib.sha256(message.data).hexdigest())
  sealing.fill(new, data_key, 0, out)
  return digests
