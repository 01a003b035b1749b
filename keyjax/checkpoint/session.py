"""An opened checkpoint: its data key is known and its manifest read."""

import os
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from keyjax import seal
from keyjax.checkpoint.errors import CheckpointContentError
from keyjax.checkpoint.format import manifest as manifests
from keyjax.checkpoint.format import signature as signing
from keyjax.checkpoint.format.manifest import Manifest
from keyjax.checkpoint.storage.store import Store
from keyjax.keyring import Identity, open_envelope
from keyjax.keyring.data_keys import leaf_key

MOST_MANIFEST = seal.size_of_sealed(manifests.MAX_SIZE)
_SLACK = 1 << 28


class Session(NamedTuple):
  """What it takes to open parts; it shows no key.

  Attributes:
    store: where the sealed bytes are.
    manifest: what they hold.
    data_key: the checkpoint's.
    signed: whether a signature was checked, and each digest is to be.
  """

  store: Store
  manifest: Manifest
  data_key: bytes
  signed: bool

  def __repr__(self) -> str:
    return f"<Session {self.store.path}>"


def several(people: Any, what: Literal["wrap", "unwrap"]) -> list[Any]:
  """Returns recipients or identities as a list; one of them will do.

  Args:
    people: those.
    what: what they must be able to do.

  Raises:
    TypeError: one of them is something else.
  """
  whole = isinstance(people, Iterable) and not isinstance(people, str | bytes)
  out = list(people) if whole else [people]
  for one in out:
    if not (hasattr(one, "id") and callable(getattr(one, what, None))):
      kind = "a recipient" if what == "wrap" else "an identity"
      name = type(one).__name__
      reader = "parse_recipient" if what == "wrap" else "read_key"
      use = {"Secret": "SymmetricKey", "str": reader}.get(name)
      more = f": use keyring.{use} of it" if use else ""
      raise TypeError(f"a {name} is not {kind}{more}")
  return out


def begin(
  path: str | os.PathLike[str],
  identities: Identity | Iterable[Identity],
  step: int | None = None,
  verify_key: signing.VerifyKey | None = None,
) -> Session:
  """Opens a checkpoint's envelope and manifest.

  Args:
    path: its folder.
    identities: keys to try.
    step: the step it must be of, if that is known.
    verify_key: whose signature it must bear, if that is known.

  Raises:
    FileNotFoundError: there is no whole checkpoint at `path`.
    KeyringError: no identity opens it.
    CheckpointError: it is damaged, of another step, or not signed by this key.
  """
  store = Store(path)
  opened = open_envelope(store.envelope, several(identities, "unwrap"))
  sealed = store.small("manifest", MOST_MANIFEST)
  found = read_manifest(opened.data_key, opened.checkpoint, sealed)
  _check_size(store, found)
  if step is not None and found.step != step:
    raise CheckpointContentError(
      f"{store.path} is of step {found.step}, not of step {step}"
    )
  if verify_key is not None:
    signature = store.small("signature", signing.SIZE)
    signing.check(verify_key, opened.data_key, found.id, sealed, signature)
    if found.digests is None:
      raise CheckpointContentError("the manifest is signed and has no digests")
  return Session(store, found, opened.data_key, verify_key is not None)


def _check_size(store: Store, found: Manifest) -> None:
  """Raises a CheckpointError before memory is taken for what is not there.

  Who knows a recipient's public key can seal a manifest of any sizes for it.
  What was cut is let through, for the error that names the leaf.
  """
  claimed = found.streams.rows * found.streams.size
  if claimed > _SLACK and claimed > 4 * store.size():
    raise CheckpointContentError(
      f"{store.path} has far fewer bytes than its manifest says"
    )


def read_manifest(data_key: bytes, checkpoint: str, sealed: bytes) -> Manifest:
  """Opens and reads a manifest.

  Raises:
    CheckpointError: it does not open, or is no manifest of this checkpoint.
  """
  key = leaf_key(data_key, "manifest", "")
  try:
    data = seal.unseal(key, sealed, manifests.context("manifest", checkpoint))
  except seal.SealError:
    raise CheckpointContentError(
      "the manifest does not open: it is damaged, or of another checkpoint"
    ) from None
  found = manifests.from_bytes(data)
  if found.id != checkpoint:
    raise CheckpointContentError("the manifest names another checkpoint")
  return found


def seal_manifest(
  data_key: bytes, manifest: Manifest, salt: bytes | None = None
) -> bytes:
  """Returns a manifest as one sealed message, with a random salt for None.

  Raises:
    ValueError: the tree or the metadata cannot be stored.
  """
  return seal.seal(
    leaf_key(data_key, "manifest", ""),
    manifests.to_bytes(manifest),
    manifests.context("manifest", manifest.id),
    salt=salt,
  )
