"""The manifest: what a checkpoint holds and where, sealed with the rest."""

import json
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from keyjax.checkpoint.format.layout import Index, Part, Streams
from keyjax.checkpoint.format.origin import Origin

KINDS = ("jax", "numpy", "int", "float", "bool")
RNG_KIND = "rng:"
_DTYPES = (
  "bool int4 int8 int16 int32 int64 uint4 uint8 uint16 uint32 uint64 "
  "float16 float32 float64 bfloat16 complex64 complex128 "
  "float8_e3m4 float8_e4m3 float8_e4m3b11fnuz float8_e4m3fn float8_e4m3fnuz "
  "float8_e5m2 float8_e5m2fnuz float8_e8m0fnu float4_e2m1fn int2 uint2"
)
DTYPES = {
  name: np.dtype(getattr(ml_dtypes, name, name)) for name in _DTYPES.split()
}


class Leaf(NamedTuple):
  """What the manifest records about a leaf.

  Attributes:
    path: Path, such as `params/dense/kernel`.
    dtype: Name in `DTYPES`.
    shape: Shape of the whole leaf.
    kind: One of `KINDS`: "jax", "numpy", or the type of a Python number; or
      `rng:` and the name of its generator, for the words of JAX PRNG keys.
    parts: Its boxes, which cover it exactly once.
  """

  path: str
  dtype: str
  shape: Index
  kind: str
  parts: tuple[Part, ...]

  @property
  def itemsize(self) -> int:
    """Bytes of an element."""
    return DTYPES[self.dtype].itemsize

  @property
  def rng(self) -> str:
    """Name of the generator of PRNG keys; empty for other leaves."""
    is_rng = self.kind.startswith(RNG_KIND)
    return self.kind.removeprefix(RNG_KIND) if is_rng else ""


class Manifest(NamedTuple):
  """What a checkpoint holds.

  Attributes:
    id: Random id of the checkpoint.
    step: Training step, at least 0.
    leaves: Leaves in the order of the tree.
    tree: Structure of the tree; see `tree_structure.describe`.
    metadata: Metadata of the user.
    streams: How the sealed bytes are stored.
    digests: SHA-256 of the message of each part, hexadecimal, in the order of
      the leaves; None if the checkpoint is not signed.
    origin: Files that it was sealed from; None for a tree.
    name: Name of the model; empty if none was given.
    run: Id of the training run; empty if none was given.
  """

  id: str
  step: int
  leaves: tuple[Leaf, ...]
  tree: Any
  metadata: dict[str, Any]
  streams: Streams
  digests: tuple[str, ...] | None
  origin: Origin | None = None
  name: str = ""
  run: str = ""

  @property
  def used(self) -> list[int]:
    """Bytes of each stream that hold parts; the rest is padding."""
    return used_bytes(self.leaves, self.streams.processes)


def used_bytes(leaves: tuple[Leaf, ...], streams: int) -> list[int]:
  """Return the bytes of each stream that hold parts."""
  used = [0] * streams
  for leaf in leaves:
    for part in leaf.parts:
      used[part.stream] += part.size
  return used


def unset_digests(leaves: tuple[Leaf, ...]) -> tuple[str, ...]:
  """Return placeholders of the digests' final size."""
  return ("0" * 64,) * sum(len(leaf.parts) for leaf in leaves)


def message_context(*fields: Any) -> bytes:
  """Return the context of one message of one checkpoint, unambiguously."""
  return json.dumps(
    ["keyjax/checkpoint/1", *fields], separators=(",", ":")
  ).encode("ascii")


def part_context(manifest: Manifest, leaf: Leaf, part: Part) -> bytes:
  """Return the context of a part: its checkpoint, step, leaf and position."""
  return message_context(
    "part",
    manifest.id,
    manifest.step,
    leaf.path,
    leaf.dtype,
    leaf.shape,
    part.start,
    part.stop,
  )


def padding_context(manifest: Manifest, process: int, offset: int) -> bytes:
  """Return the context of a padding message."""
  return message_context("padding", manifest.id, process, offset)
