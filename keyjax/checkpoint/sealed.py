"""Saving and restoring sealed checkpoints; see the package's text."""

import functools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from keyjax.aes.host import Impl
from keyjax.checkpoint import session
from keyjax.checkpoint.errors import check_tree
from keyjax.checkpoint.format import layout, structure
from keyjax.checkpoint.format import signature as signing
from keyjax.checkpoint.format.layout import Streams
from keyjax.checkpoint.format.manifest import DTYPES, Leaf, Manifest, to_bytes
from keyjax.checkpoint.parts import opening, placing, sealing
from keyjax.checkpoint.session import Session, begin, several
from keyjax.checkpoint.storage import folders, store
from keyjax.checkpoint.storage import locations as places
from keyjax.checkpoint.storage import processes as agree
from keyjax.keyring import Identity, Recipient, seal_envelope
from keyjax.keyring.entries import now
from keyjax.seal import size_of_sealed
from keyjax.tree import path_str


def save(
  path: str | os.PathLike[str],
  tree: Any,
  recipients: Recipient | Iterable[Recipient],
  *,
  step: int = 0,
  metadata: dict[str, Any] | None = None,
  signer: signing.Signer | None = None,
  salt: sealing.Salt = sealing.random_salt,
  impl: Impl = "auto",
) -> None:
  """Seals a tree and writes it to a new folder, atomically.

  In several processes, all of them call it with the same arguments; each
  seals and writes its own shards, and the folder is one they all see.

  Args:
    path: a folder that does not exist, on a disk or in a bucket (`gs://...`).
    tree: a pytree of arrays and numbers, sharded in any way.
    recipients: who can open it, each alone.
    step: of the training; sealed.
    metadata: what fits into 1 MiB of JSON; sealed.
    signer: an Ed25519 or ML-DSA-65 private key of `cryptography`.
    salt: gives the salt of each message: `Licensee.salt` marks a copy, so that
      `trace` tells whose it is.
    impl: "device" seals each array where it lies, "host" with OpenSSL; "auto"
      does the first on accelerators.

  Raises:
    ValueError: the tree holds a key, no array, or something else than arrays;
      or the metadata is too large.
    FileExistsError: `path` exists.
    KeyringError: a recipient cannot be used.
    CheckpointError: the disk is full, or the folder cannot be written, or
      its bucket cannot be reached.

  Example:
    >>> import tempfile, jax.numpy as jnp
    >>> from keyjax import Secret
    >>> from keyjax.keyring import SymmetricKey
    >>> owner, path = SymmetricKey(Secret.generate()), tempfile.mkdtemp() + "/c"
    >>> save(path, {"w": jnp.arange(3)}, owner, metadata={"by": "me"})
    >>> restore(path, owner)
    {'w': Array([0, 1, 2], dtype=int32)}
  """
  place = places.location(path)
  folders.check_absent(place)
  made = prepare(
    tree, recipients, step, metadata, signer, impl, lazy=True, salt=salt
  )
  write(place, *made)


def prepare(
  tree: Any,
  recipients: Recipient | Iterable[Recipient],
  step: int,
  metadata: dict[str, Any] | None,
  signer: signing.Signer | None,
  impl: Impl,
  lazy: bool,
  salt: sealing.Salt = sealing.random_salt,
) -> tuple[bytes, dict[str, Any], Streams]:
  """Seals a tree in memory, or when it is written.

  Returns:
    The envelope, the arrays to write, and how they are stored.
  """
  check_tree(tree)
  sealing.check_impl(impl)
  signing.check_signer(signer)
  if isinstance(step, np.integer):
    step = int(step)
  if type(step) is not int or step < 0:
    raise ValueError(f"step={step!r}: a whole number, 0 or more")
  if metadata is not None and type(metadata) is not dict:
    raise ValueError("metadata is a dict, or None")
  leaves, found = describe(tree, step, metadata or {}, signer is not None)
  checkpoint, data_key = agree.new_checkpoint()
  found = found._replace(id=checkpoint)
  envelope = seal_envelope(
    data_key, several(recipients, "wrap"), checkpoint=checkpoint, created=now()
  )
  digests: list[bytes] = []
  messages = sealing.digested(
    sealing.messages(found, data_key, leaves, jax.process_index(), impl, salt),
    digests,
  )
  return pack(found, data_key, envelope, messages, digests, signer, lazy, salt)


def pack(
  found: Manifest,
  data_key: bytes,
  envelope: bytes,
  messages: Iterator[sealing.Message],
  digests: list[bytes],
  signer: signing.Signer | None,
  lazy: bool,
  salt: sealing.Salt = sealing.random_salt,
) -> tuple[bytes, dict[str, Any], Streams]:
  """Returns a stream with its manifest and signature, to be written.

  Args:
    found: the manifest; its digests are put in once they are known.
    data_key: the checkpoint's.
    envelope: the data key, wrapped.
    messages: this process's stream.
    digests: of the messages that were sealed; `messages` fills it.
    signer: who signs.
    lazy: whether messages are sealed when they are written.
    salt: gives the manifest's salt.
  """
  lazy = lazy and found.streams.rows == 1
  arrays = store.segments(
    sealing.Segments(found.streams, messages), found.streams, lazy
  )

  @functools.cache
  def manifest() -> bytes:
    whole = found
    if found.digests is not None:
      mine = _numbered(found, digests)
      every = agree.gather_digests(mine, len(found.digests))
      whole = found._replace(digests=every)
    return session.seal_manifest(data_key, whole, salt())

  def signature() -> bytes:
    return signing.sign(signer, data_key, found.id, manifest())

  # Digests have their final size from the beginning.
  size = size_of_sealed(len(to_bytes(found)))
  for name, make, length in (
    ("manifest", manifest, size),
    ("signature", signature, signing.SIZE),
  ):
    made = functools.partial(_array, make)
    arrays[name] = store.Pending.of((length,), made) if lazy else made()
  return envelope, arrays, found.streams


def _array(make: Callable[[], bytes]) -> np.ndarray:
  return np.frombuffer(make(), np.uint8)


def _numbered(found: Manifest, digests: list[bytes]) -> dict[int, bytes]:
  """Returns the digests of this process's parts by the part's number."""
  parts = [part for leaf in found.leaves for part in leaf.parts]
  mine = [i for i, p in enumerate(parts) if p.stream == jax.process_index()]
  assert len(digests) >= len(mine)  # The manifest is sealed after all parts.
  return dict(zip(mine, digests, strict=False))  # Then come those of padding.


def write(
  path: pathlib.Path, envelope: bytes, arrays: dict[str, Any], streams: Streams
) -> None:
  """Writes what `prepare` made, whole or not at all.

  Raises:
    CheckpointError: the disk is full, or the folder cannot be written.
  """
  handler = ocp.CompositeCheckpointHandler(**store.handlers())
  with folders.writing(path), ocp.Checkpointer(handler) as checkpointer:
    checkpointer.save(path, args=store.arguments(envelope, arrays, streams))


def describe(
  tree: Any, step: int, metadata: dict[str, Any], signed: bool
) -> tuple[list[Any], Manifest]:
  """Returns a tree's leaves, and its manifest without an id and digests.

  Raises:
    ValueError: a leaf cannot be stored.
  """
  found = jax.tree_util.tree_leaves_with_path(tree)
  paths, leaves = [path_str(path) for path, _ in found], [x for _, x in found]
  if len(set(paths)) < len(paths):
    twice = next(p for p in paths if paths.count(p) > 1)
    raise ValueError(f"two leaves have the path {twice}")
  dtypes = [_dtype(p, x) for p, x in zip(paths, leaves, strict=True)]
  sizes = [DTYPES[name].itemsize for name in dtypes]
  count = jax.process_count()
  parts = layout.assign(list(zip(leaves, sizes, strict=True)), count)
  placed, used = layout.place(parts, sizes, count)
  specs = tuple(
    Leaf(path, dtype, tuple(np.shape(x)), _kind(x), tuple(p))
    for path, dtype, x, p in zip(paths, dtypes, leaves, placed, strict=True)
  )
  digests = ("0" * 64,) * sum(map(len, placed)) if signed else None
  streams = layout.streams(used)
  described = structure.describe(tree)
  return leaves, Manifest(
    "0" * 32, step, specs, described, metadata, streams, digests
  )


def _dtype(path: str, leaf: Any) -> str:
  name = str(leaf.dtype) if hasattr(leaf, "dtype") else ""
  if jax.dtypes.issubdtype(getattr(leaf, "dtype", None), jax.dtypes.prng_key):
    raise ValueError(
      f"leaf {path} is a PRNG key: store jax.random.key_data of it"
    )
  if not name:
    name = {bool: "bool", int: "int64"}.get(type(leaf), "float64")
  if isinstance(leaf, int) and not -(2**63) <= leaf < 2**63:
    raise ValueError(f"leaf {path} does not fit into 64 bits")
  name = np.dtype(leaf.dtype).name if hasattr(leaf, "dtype") else name
  if name not in DTYPES:
    raise ValueError(f"leaf {path} is of {name}, which is not stored: cast it")
  return name


def _kind(leaf: Any) -> str:
  if isinstance(leaf, jax.Array):
    return "jax"
  if isinstance(leaf, np.ndarray | np.generic):
    return "numpy"
  return "int" if type(leaf) is int else type(leaf).__name__


def restore(
  path: str | os.PathLike[str],
  identities: Identity | Iterable[Identity],
  like: Any = None,
  *,
  leaves: placing.Leaves | None = None,
  step: int | None = None,
  verify_key: signing.VerifyKey | None = None,
  impl: Impl = "auto",
) -> Any:
  """Reads and opens a checkpoint, or some of its leaves.

  Only the chunks that hold what is wanted are read and opened.

  Args:
    path: the checkpoint's folder.
    identities: keys, of which one opens it.
    like: the structure, shapes, dtypes and shardings that are wanted: arrays
      or `jax.ShapeDtypeStruct`, on any mesh. None gives the tree as it was
      saved, on one device, with dicts in place of other nodes.
    leaves: paths, or a regular expression for whole paths; `like` then has
      these leaves alone.
    step: the step that it must be of.
    verify_key: the public key of who must have signed it.
    impl: "device" opens arrays where they are wanted, "host" with OpenSSL;
      "auto" does the first on accelerators.

  Returns:
    The tree, bit for bit.

  Raises:
    FileNotFoundError: there is no whole checkpoint at `path`.
    KeyringError: no identity opens it.
    CheckpointError: it is damaged or was changed (the leaf is named), it is of
      another tree or step, or not signed by this key.
    ValueError: no such leaf.
  """
  return restore_from(
    begin(path, identities, step, verify_key), like, leaves, impl
  )


def restore_from(
  opened: Session, like: Any, leaves: placing.Leaves | None, impl: Impl
) -> Any:
  """Reads leaves of a checkpoint that is open; see `restore`."""
  sealing.check_impl(impl)
  numbers = placing.select(opened.manifest, leaves)
  wanted, finish, build = placing.plan(opened.manifest, numbers, like, impl)
  boxes = opening.open_boxes(
    opened.store, opened.manifest, opened.data_key, wanted, opened.signed
  )
  return build(
    [make(found) for make, (_, found) in zip(finish, boxes, strict=True)]
  )


def read_metadata(
  path: str | os.PathLike[str],
  identities: Identity | Iterable[Identity],
  *,
  step: int | None = None,
  verify_key: signing.VerifyKey | None = None,
) -> dict[str, Any]:
  """Returns what `save` was given as metadata; no leaf is read.

  Args:
    path: the checkpoint's folder.
    identities: keys, of which one opens it.
    step: the step that it must be of.
    verify_key: the public key of who must have signed it; a recipient can
      write other metadata otherwise.

  Raises:
    FileNotFoundError, KeyringError, CheckpointError: as `restore`.
  """
  return begin(path, identities, step, verify_key).manifest.metadata
