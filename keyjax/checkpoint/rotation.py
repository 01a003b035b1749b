"""Other recipients for a checkpoint that is there, and other data keys."""

import datetime
import mmap
import os
import pathlib
import tempfile
from collections.abc import Iterable

import numpy as np

from keyjax import seal
from keyjax.aes.cobblestone import HEADER, Opener, seal_into
from keyjax.checkpoint import (
  agree,
  folders,
  opening,
  reading,
  sealed,
  sealing,
  signing,
  store,
)
from keyjax.checkpoint.errors import flat
from keyjax.checkpoint.manifest import part_context
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
    ValueError: several processes wrote it; call this in one.
  """
  target = pathlib.Path(new_path).absolute()
  folders.check_absent(target)
  signing.check_signer(signer)
  old = begin(path, identities, verify_key=verify_key)
  found, count = old.manifest, old.manifest.streams.count
  checkpoint, data_key = agree.new_checkpoint()
  now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
  envelope = seal_envelope(
    data_key, several(recipients), checkpoint=checkpoint, created=now
  )
