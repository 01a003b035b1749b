"""Saving sealed checkpoints; see the package's text."""

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from keyjax.aes.host import Impl
from keyjax.checkpoint.check_tree import check_tree, leaf_dtype
from keyjax.checkpoint.checks import (
  as_recipients,
  check_optional_name,
  checked_step,
)
from keyjax.checkpoint.format import layout, tree_structure
from keyjax.checkpoint.format import signature as signatures
from keyjax.checkpoint.format.manifest import (
  DTYPES,
  RNG_KIND,
  Leaf,
  Manifest,
  unset_digests,
)
from keyjax.checkpoint.format.manifest_json import (
  MAX_PATH,
  MAX_RANK,
  seal_manifest,
  to_bytes,
)
from keyjax.checkpoint.format.origin import Origin, check_file_names
from keyjax.checkpoint.parts import rng_keys, sealing
from keyjax.checkpoint.parts.stored_leaf import StoredLeaf
from keyjax.checkpoint.storage import folders, orbax_writer, processes
from keyjax.checkpoint.storage.locations import absolute_path
from keyjax.checkpoint.storage.orbax_writer import LazyArray, SealedArrays
from keyjax.keyring import Recipient, seal_envelope
from keyjax.keyring.entries import now
from keyjax.seal import size_of_sealed
from keyjax.tree import path_str


def save(
  path: str | os.PathLike[str],
  tree: Any,
  recipients: Recipient | Iterable[Recipient],
  *,
  step: int = 0,
  name: str = "",
  run: str = "",
  metadata: dict[str, Any] | None = None,
  signer: signatures.Signer | None = None,
  salt: sealing.Salt = sealing.random_salt,
  impl: Impl = "auto",
) -> None:
  """Seal a tree and write it to a new folder, atomically.

  With several processes, all of them call it with the same arguments; each
  seals and writes its own shards to a folder that all of them see.

  Args:
    path: New folder, on a disk or in a bucket (`gs://...`).
    tree: Pytree of arrays, numbers and JAX PRNG keys, with any sharding.
    recipients: Recipients; each can open it alone.
    step: Training step; sealed.
    name: Name of the model: letters, digits and `._:/+@=-`; sealed. `restore`
      can require it.
    run: Id of the training run, of the same characters; sealed.
    metadata: Dict of at most 1 MiB as JSON; sealed.
    signer: Ed25519 or ML-DSA-65 private key of `cryptography`.
    salt: Returns the salt of each message. `Licensee.salt` marks a copy, so
      that `trace` identifies its licensee.
    impl: "device" seals each array on its devices, "host" on the host; "auto"
      is "device" on accelerators.

  Raises:
    ValueError: If the tree holds a key, no array, something other than
      arrays, or a key of a dict that is neither text nor a whole number; or if
      the metadata is too large.
    FileExistsError: If `path` exists.
    KeyringError: If a recipient cannot be used.
    CheckpointStorageError: If the disk is full, the folder cannot be written,
      or its bucket cannot be reached.

  Example:
    >>> import tempfile, jax.numpy as jnp
    >>> from keyjax import Secret
    >>> from keyjax.checkpoint import restore
    >>> from keyjax.keyring import SymmetricKey
    >>> owner, path = SymmetricKey(Secret.generate()), tempfile.mkdtemp() + "/c"
    >>> save(path, {"w": jnp.arange(3)}, owner, metadata={"by": "me"})
    >>> restore(path, owner)
    {'w': Array([0, 1, 2], dtype=int32)}
  """
  save_with_origin(
    path,
    tree,
    recipients,
    step=step,
    name=name,
    run=run,
    metadata=metadata,
    signer=signer,
    salt=salt,
    impl=impl,
    origin=None,
  )


def save_with_origin(
  path: str | os.PathLike[str],
  tree: Any,
  recipients: Recipient | Iterable[Recipient],
  *,
  step: int,
  name: str = "",
  run: str = "",
  metadata: dict[str, Any] | None,
  signer: signatures.Signer | None,
  salt: sealing.Salt = sealing.random_salt,
  impl: Impl = "auto",
  origin: Origin | None,
) -> None:
  """Save a tree and the description of the files that it is from."""
  folder = absolute_path(path)
  folders.check_absent(folder)
  if origin is not None:
    check_file_names(origin)
  sealed = seal_tree(
    tree,
    recipients,
    step=step,
    name=name,
    run=run,
    metadata=metadata,
    signer=signer,
    impl=impl,
    lazy=True,
    salt=salt,
    origin=origin,
  )
  orbax_writer.write(folder, sealed)


def seal_tree(
  tree: Any,
  recipients: Recipient | Iterable[Recipient],
  *,
  step: int,
  name: str = "",
  run: str = "",
  metadata: dict[str, Any] | None,
  signer: signatures.Signer | None,
  impl: Impl,
  lazy: bool,
  salt: sealing.Salt = sealing.random_salt,
  origin: Origin | None = None,
  data_key: bytes | None = None,
) -> SealedArrays:
  """Seal a tree in memory, or, if lazy, when it is written; see `save`.

  A `data_key` that is given is of this checkpoint alone, and the same in all
  processes.
  """
  check_tree(tree)
  sealing.check_impl(impl)
  signatures.check_signer(signer)
  step = checked_step(step)
  check_optional_name(name, "name")
  check_optional_name(run, "run")
  if metadata is not None and type(metadata) is not dict:
    raise ValueError("metadata is a dict, or None")
  leaves, manifest = describe_tree(
    tree, step, metadata or {}, signed=signer is not None
  )
  checkpoint, fresh_key = processes.new_id_and_data_key()
  data_key = data_key or fresh_key
  manifest = manifest._replace(id=checkpoint, origin=origin, name=name, run=run)
  messages = sealing.stream_messages(
    manifest, data_key, leaves, jax.process_index(), impl, salt
  )
  return seal_messages(
    manifest, data_key, recipients, messages, signer, lazy, salt
  )


def seal_messages(
  manifest: Manifest,
  data_key: bytes,
  recipients: Recipient | Iterable[Recipient],
  messages: Iterator[sealing.Message],
  signer: signatures.Signer | None,
  lazy: bool,
  salt: sealing.Salt = sealing.random_salt,
  revoked: Iterable[str] = (),
) -> SealedArrays:
  """Return the arrays of a checkpoint: segments, manifest and signature.

  Args:
    manifest: Manifest; its digests are set once they are known.
    data_key: Data key of the checkpoint.
    recipients: Recipients of the wrapped data key.
    messages: Stream of this process.
    signer: Private key to sign with.
    lazy: Whether to seal messages when they are written.
    salt: Returns the salt of the manifest.
    revoked: Ids of former recipients, for the envelope.
  """
  envelope = seal_envelope(
    data_key,
    as_recipients(recipients),
    checkpoint=manifest.id,
    created=now(),
    revoked=revoked,
  )
  digests: list[bytes] = []
  if manifest.digests is not None:
    messages = sealing.with_digests(messages, digests)
  sealer = sealing.SegmentSealer(manifest.streams, messages)
  lazy = lazy and manifest.streams.processes == 1
  arrays = orbax_writer.segment_arrays(
    manifest.streams, sealer.next_segment, sealer.reuse, lazy
  )

  @functools.cache
  def sealed_manifest() -> bytes:
    complete = manifest
    if manifest.digests is not None:
      mine = _digests_by_number(manifest, digests)
      every = processes.gather_digests(mine, len(manifest.digests))
      complete = manifest._replace(digests=every)
    return seal_manifest(data_key, complete, salt())

  def sealed_signature() -> bytes:
    return signatures.sign(signer, data_key, manifest.id, sealed_manifest())

  # The placeholders of the digests have their final size.
  size = size_of_sealed(len(to_bytes(manifest)))
  arrays["manifest"] = _byte_array(sealed_manifest, size, lazy)
  arrays["signature"] = _byte_array(
    sealed_signature, signatures.SEALED_SIZE, lazy
  )
  return SealedArrays(
    envelope=envelope, arrays=arrays, streams=manifest.streams
  )


def _byte_array(
  make_bytes: Callable[[], bytes], size: int, lazy: bool
) -> np.ndarray:
  def produce() -> np.ndarray:
    return np.frombuffer(make_bytes(), np.uint8)

  return LazyArray.of((size,), produce) if lazy else produce()


def _digests_by_number(
  manifest: Manifest, digests: list[bytes]
) -> dict[int, bytes]:
  """Return the digests of this process's parts by the part's number."""
  parts = [part for leaf in manifest.leaves for part in leaf.parts]
  mine = [i for i, p in enumerate(parts) if p.stream == jax.process_index()]
  assert len(digests) >= len(mine)  # The manifest is sealed after all parts.
  return dict(zip(mine, digests, strict=False))  # Those of padding follow.


def describe_tree(
  tree: Any, step: int, metadata: dict[str, Any], signed: bool
) -> tuple[list[Any], Manifest]:
  """Return a tree's leaves, and its manifest without id and digests.

  Raises:
    ValueError: If a leaf cannot be stored.
  """
  with_paths = jax.tree_util.tree_leaves_with_path(tree)
  paths = [path_str(path) for path, _ in with_paths]
  kinds = [
    _kind(path, x) for path, (_, x) in zip(paths, with_paths, strict=True)
  ]
  leaves = [
    jax.random.key_data(x) if rng_keys.is_rng(x) else x for _, x in with_paths
  ]
  if len(set(paths)) < len(paths):
    twice = next(p for p in paths if paths.count(p) > 1)
    raise ValueError(f"two leaves have the path {twice}")
  dtypes = [leaf_dtype(p, x) for p, x in zip(paths, leaves, strict=True)]
  for path, x in zip(paths, leaves, strict=True):
    _check_limits(path, x)
  itemsizes = [DTYPES[name].itemsize for name in dtypes]
  count = jax.process_count()
  boxes = layout.assign_parts(list(zip(leaves, itemsizes, strict=True)), count)
  parts, used = layout.assign_offsets(boxes, itemsizes, count)
  described = tuple(
    Leaf(
      path=path,
      dtype=dtype,
      shape=tuple(np.shape(leaf)),
      kind=kind,
      parts=tuple(leaf_parts),
    )
    for path, dtype, leaf, kind, leaf_parts in zip(
      paths, dtypes, leaves, kinds, parts, strict=True
    )
  )
  manifest = Manifest(
    id="0" * 32,
    step=step,
    leaves=described,
    tree=tree_structure.describe(tree),
    metadata=metadata,
    streams=layout.choose_streams(used),
    digests=unset_digests(described) if signed else None,
  )
  return leaves, manifest


def _check_limits(path: str, leaf: Any) -> None:
  """Refuse what no manifest holds, before it is read again."""
  if len(path) > MAX_PATH:
    raise ValueError(
      f"the path of leaf {path[:24]}... has {len(path)} characters: a sealed "
      f"checkpoint has at most {MAX_PATH}"
    )
  if np.ndim(leaf) > MAX_RANK:
    raise ValueError(
      f"leaf {path} has {np.ndim(leaf)} axes: a sealed checkpoint has at most "
      f"{MAX_RANK}"
    )


def _kind(path: str, leaf: Any) -> str:
  if rng_keys.is_rng(leaf):
    return RNG_KIND + rng_keys.generator(path, leaf)
  if isinstance(leaf, jax.Array):
    return "jax"
  if isinstance(leaf, np.ndarray | np.generic | StoredLeaf):
    return "numpy"
  return "int" if type(leaf) is int else type(leaf).__name__
