"""Other recipients for a checkpoint that is there, and other data keys."""

import os
from collections.abc import Iterable, Iterator

import jax
import numpy as np

from keyjax.checkpoint import sealed
from keyjax.checkpoint.errors import storage_error
from keyjax.checkpoint.format import layout
from keyjax.checkpoint.format import signature as signing
from keyjax.checkpoint.format.manifest import Manifest, part_context
from keyjax.checkpoint.parts import opening, reading, sealing
from keyjax.checkpoint.session import Session, begin, several
from keyjax.checkpoint.storage import folders, store
from keyjax.checkpoint.storage import locations as places
from keyjax.checkpoint.storage import processes as agree
from keyjax.keyring import (
  Identity,
  Recipient,
  rewrap_envelope,
  seal_envelope,
)
from keyjax.keyring.data_keys import leaf_key
from keyjax.keyring.entries import now
from keyjax.seal import Opener, SealError, seal_into, size_of_plain


def rewrap(
  path: str | os.PathLike[str],
  identities: Identity | Iterable[Identity],
  recipients: Recipient | Iterable[Recipient],
  *,
  revoked: Iterable[str] = (),
  reinstate: bool = False,
) -> None:
  """Gives a checkpoint other recipients; only its envelope is written.

  Right to add somebody, or to rotate a key that did not leak. Wrong to revoke:
  who could open the checkpoint may keep its data key, or the old envelope; see
  `reencrypt`. A kill at any point leaves the old envelope or the new one. In a
  bucket one object is replaced; where it keeps versions, the old one stays.

  Args:
    path: the checkpoint's folder.
    identities: keys, of which one opens it.
    recipients: everybody who can open it from now on.
    revoked: ids of former recipients, who are told so.
    reinstate: whether somebody who was revoked may be a recipient again.

  Raises:
    FileNotFoundError: there is no whole checkpoint at `path`.
    KeyringError: no identity opens it, or a recipient cannot be used or was
      revoked.
    CheckpointError: the folder cannot be written.
  """
  opened = store.Store(path)
  envelope = rewrap_envelope(
    opened.envelope,
    several(identities, "unwrap"),
    several(recipients, "wrap"),
    revoked=revoked,
    reinstate=reinstate,
  )
  try:
    store.replace_header(opened.path, envelope)
  except OSError as error:
    raise storage_error(f"could not rewrap {opened.path}", error) from None


def reencrypt(
  path: str | os.PathLike[str],
  new_path: str | os.PathLike[str],
  identities: Identity | Iterable[Identity],
  recipients: Recipient | Iterable[Recipient],
  *,
  signer: signing.Signer | None = None,
  verify_key: signing.VerifyKey | None = None,
  salt: sealing.Salt = sealing.random_salt,
) -> None:
  """Writes a checkpoint again under a new data key: what revocation needs.

  One part after the other is opened and sealed again, so memory does not grow
  with the checkpoint. It has a new id; step and metadata stay. Delete the old
  folder then, and its copies: whoever was revoked can open those for ever.

  Args:
    path: the checkpoint's folder.
    new_path: a folder that does not exist.
    identities: keys, of which one opens it.
    recipients: who can open the new one.
    signer: who signs it; a signature does not carry over.
    verify_key: whose signature the old one must bear.
    salt: gives the salt of each message; see `save`.

  Raises:
    FileNotFoundError: there is no whole checkpoint at `path`.
    FileExistsError: `new_path` exists.
    KeyringError: no identity opens it, or a recipient cannot be used.
    CheckpointError: it is damaged, or the new one cannot be written.
    ValueError: it was called in several processes.
  """
  if jax.process_count() > 1:
    raise ValueError("reencrypt runs in one process, whoever wrote it")
  target = places.location(new_path)
  folders.check_absent(target)
  signing.check_signer(signer)
  old = begin(path, identities, verify_key=verify_key)
  checkpoint, data_key = agree.new_checkpoint()
  new = _placed_anew(old.manifest, checkpoint, signer is not None)
  envelope = seal_envelope(
    data_key, several(recipients, "wrap"), checkpoint=checkpoint, created=now()
  )
  digests: list[bytes] = []
  messages = sealing.digested(_messages(old, new, data_key, salt), digests)
  rest = messages, digests, signer, True, salt
  sealed.write(target, *sealed.pack(new, data_key, envelope, *rest))


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


def _messages(
  old: Session, new: Manifest, data_key: bytes, salt: sealing.Salt
) -> Iterator[sealing.Message]:
  """Opens each part, to be sealed again when its turn comes."""
  needs, number = [], 0
  for i, leaf in enumerate(old.manifest.leaves):
    for part in leaf.parts:
      needs.append(reading.whole(number, i, part))
      number += 1
  places = [part for leaf in new.leaves for part in leaf.parts]
  for one, header, chunks in reading.read(
    old.store, old.manifest.streams, needs
  ):
    leaf, place = old.manifest.leaves[one.leaf], places[one.number]
    if old.signed:
      opening.check_digest(old.manifest, leaf, one, header, chunks)
    plain = np.empty(size_of_plain(one.part.size), np.uint8)
    key = leaf_key(old.data_key, "leaf", leaf.path)
    try:
      opener = Opener(key, header, part_context(old.manifest, leaf, one.part))
      opener.open_into(0, chunks, plain.data)
    except SealError:
      raise opening.damaged(leaf, one.part) from None
    key = leaf_key(data_key, "leaf", leaf.path)
    bound = part_context(new, leaf, place)
    yield place.size, sealing.hidden(_seal, key, plain, bound, salt)
  yield from sealing.padding(new, data_key, 0, salt)


def _seal(
  key: bytes,
  plain: np.ndarray,
  bound: bytes,
  salt: sealing.Salt,
  out: memoryview,
) -> None:
  seal_into(key, plain.data, out, bound, salt=salt())
