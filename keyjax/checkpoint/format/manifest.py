"""The manifest: what a checkpoint holds and where, sealed with the rest.

It is canonical JSON, padded with spaces. Its reader trusts nothing: whoever
holds the data key can write one, so sizes are checked before anything is
parsed and everything else before anything is allocated.
"""

import json
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from keyjax.checkpoint.errors import CheckpointContentError, CheckpointError
from keyjax.checkpoint.format import layout, structure
from keyjax.checkpoint.format.layout import Index, Part, Streams
from keyjax.keyring import KeyringError
from keyjax.keyring.encoding import dump, parse

VERSION = 1
MAX_SIZE = 1 << 26
MAX_METADATA = 1 << 20
_MAX_ITEMS = 1 << 22
_MAX_RANK = 32
_MAX_PATH = 4096
_LEAST = 1 << 12
_FIELDS = {
  "digests",
  "id",
  "leaves",
  "metadata",
  "step",
  "streams",
  "tree",
  "version",
}
KINDS = ("jax", "numpy", "int", "float", "bool")
_DTYPES = (
  "bool int4 int8 int16 int32 int64 uint4 uint8 uint16 uint32 uint64 "
  "float16 float32 float64 bfloat16 complex64 complex128 "
  "float8_e3m4 float8_e4m3 float8_e4m3b11fnuz float8_e4m3fn float8_e4m3fnuz "
  "float8_e5m2 float8_e5m2fnuz float8_e8m0fnu float4_e2m1fn int2 uint2"
)
DTYPES = {
  name: np.dtype(getattr(jnp, name, name))
  for name in _DTYPES.split()
  if name[:3] not in ("int", "uin", "flo") or hasattr(jnp, name)
}


class Leaf(NamedTuple):
  """What is known of a leaf.

  Attributes:
    path: as in `params/dense/kernel`.
    dtype: a name in `DTYPES`.
    shape: of the whole leaf.
    kind: what it was: "jax", "numpy", or a number of Python's.
    parts: its boxes, which cover it.
  """

  path: str
  dtype: str
  shape: Index
  kind: str
  parts: tuple[Part, ...]

  @property
  def itemsize(self) -> int:
    """How many bytes an element has."""
    return DTYPES[self.dtype].itemsize


class Manifest(NamedTuple):
  """What a checkpoint holds.

  Attributes:
    id: the checkpoint's, random.
    step: of the training, at least 0.
    leaves: in the order of the tree.
    tree: the structure; see `structure.describe`.
    metadata: the user's.
    streams: how the sealed bytes are stored.
    digests: SHA-256 of each part's message, hexadecimal, in the order of the
      leaves; None when the checkpoint is not signed.
  """

  id: str
  step: int
  leaves: tuple[Leaf, ...]
  tree: Any
  metadata: dict[str, Any]
  streams: Streams
  digests: tuple[str, ...] | None

  @property
  def used(self) -> list[int]:
    """How many bytes of each stream hold parts."""
    return _used(self.leaves, self.streams.rows)


def to_bytes(manifest: Manifest) -> bytes:
  """Returns a manifest as padded JSON.

  Raises:
    ValueError: the metadata does not fit into JSON, or something is too large.
  """
  leaves = [
    [x.path, x.dtype, x.shape, x.kind, [p[:3] for p in x.parts]]
    for x in manifest.leaves
  ]
  try:
    if len(dump(manifest.metadata)) > MAX_METADATA:
      raise ValueError(f"metadata has more than {MAX_METADATA} bytes")
    data = dump(manifest._asdict() | {"leaves": leaves, "version": VERSION})
  except KeyringError as error:
    raise ValueError(f"metadata: {error}") from None
  data = data.ljust(layout.padme(max(len(data), _LEAST)))
  try:
    from_bytes(data)  # What is written can be read, or is not written.
  except CheckpointError as error:
    raise ValueError(f"this tree cannot be stored: {error}") from None
  return data


def from_bytes(data: bytes) -> Manifest:
  """Reads a manifest.

  Raises:
    CheckpointError: it is not one, of another version, or does not add up.
  """
  try:
    fields = parse(
      data.rstrip(b" "), "a manifest", size=MAX_SIZE, items=_MAX_ITEMS
    )
  except KeyringError as error:
    raise CheckpointContentError(str(error)) from None
  version = fields.pop("version", None)
  if type(version) is not int or version != VERSION:
    raise CheckpointContentError(
      f"a manifest of version {version!r:.20}: this release of KeyJAX reads "
      f"version {VERSION}"
    )
  fields["version"] = version
  _require(set(fields) == _FIELDS, "missing or unknown fields")
  _require(_is_id(fields["id"]), "no id")
  _require(_is_count(fields["step"]), "no step")
  _require(type(fields["metadata"]) is dict, "no metadata")
  _require(len(dump(fields["metadata"])) <= MAX_METADATA, "much metadata")
  count = _stream_count(fields["streams"])
  leaves = _leaves(fields["leaves"], count)
  structure.check(fields["tree"], len(leaves))
  streams = layout.streams(_used(leaves, count))
  _require(fields["streams"] == list(streams), "streams of another size")
  digests = _digests(fields["digests"], sum(len(x.parts) for x in leaves))
  return Manifest(
    fields["id"],
    fields["step"],
    leaves,
    fields["tree"],
    fields["metadata"],
    streams,
    digests,
  )


def _require(condition: bool, what: str) -> None:
  if not condition:
    raise CheckpointContentError(f"the manifest is not well-formed: {what}")


def _is_id(value: Any) -> bool:
  return (
    type(value) is str
    and len(value) == 32
    and all(c in "0123456789abcdef" for c in value)
  )


def _is_utf8(text: str) -> bool:
  try:
    return bool(text.encode())
  except UnicodeEncodeError:
    return False


def _is_count(value: Any) -> bool:
  return type(value) is int and 0 <= value < 2**62


def _stream_count(value: Any) -> int:
  _require(
    type(value) is list
    and len(value) == 4
    and all(map(_is_count, value))
    and 1 <= value[0] <= 2**16,
    "no streams",
  )
  return value[0]


def _leaves(value: Any, streams: int) -> tuple[Leaf, ...]:
  """Checks every leaf, and finds where its parts lie."""
  _require(type(value) is list and bool(value), "no leaves")
  for leaf in value:
    _require(type(leaf) is list and len(leaf) == 5, "a leaf")
    _check_leaf(leaf, streams)
  _require(len({x[0] for x in value}) == len(value), "a path twice")
  sizes = [DTYPES[dtype].itemsize for _, dtype, *_ in value]
  boxes = [[(tuple(a), tuple(b), s) for a, b, s in x[4]] for x in value]
  placed, _ = layout.place(boxes, sizes, streams)
  return tuple(
    Leaf(path, dtype, tuple(shape), kind, tuple(parts))
    for (path, dtype, shape, kind, _), parts in zip(value, placed, strict=True)
  )


def _check_leaf(leaf: list[Any], streams: int) -> None:
  path, dtype, shape, kind, parts = leaf
  _require(type(path) is str and len(path) <= _MAX_PATH, "a path")
  _require(path.isascii() or _is_utf8(path), "a path")
  _require(type(dtype) is str and dtype in DTYPES, "a dtype")
  _require(type(kind) is str and kind in KINDS, "a kind of leaf")
  _require(_is_index(shape), "a shape")
  # NumPy counts as if no axis were empty.
  elements = math.prod(n or 1 for n in shape)
  _require(elements * DTYPES[dtype].itemsize < 2**50, "a shape")
  _require(type(parts) is list and bool(parts), "a leaf without parts")
  for part in parts:
    _require(type(part) is list and len(part) == 3, "a part")
    start, stop, stream = part
    inside = _is_index(start) and _is_index(stop) and _is_count(stream)
    inside = inside and len(start) == len(stop) == len(shape)
    inside = inside and stream < streams
    _require(
      inside
      and all(
        a < b <= n or a == b == n == 0
        for a, b, n in zip(start, stop, shape, strict=True)
      ),
      "a part outside its leaf",
    )
  _require(_cover(parts, shape), "parts that do not cover their leaf once")


def _is_index(value: Any) -> bool:
  return (
    type(value) is list
    and len(value) <= _MAX_RANK
    and all(map(_is_count, value))
  )


def _cover(parts: list[Any], shape: list[int]) -> bool:
  """Tells whether boxes inside a leaf hold each of its elements once."""
  if 0 in shape:
    return len(parts) == 1
  edges = [
    sorted({e for start, stop, _ in parts for e in (start[i], stop[i])})
    for i in range(len(shape))
  ]
  # Shards are a grid: what would need many more cells was not cut by us.
  cells = [len(e) - 1 for e in edges]
  if math.prod(cells) > 16 * len(parts) + 1024:
    return False
  number = [{edge: i for i, edge in enumerate(e)} for e in edges]
  seen = np.zeros(cells, np.bool_)
  for start, stop, _ in parts:
    box = zip(number, start, stop, strict=True)
    # An ellipsis makes a view of a scalar too.
    where: Any = (*(slice(n[a], n[b]) for n, a, b in box), ...)
    cell = seen[where]
    if cell.any():  # At once: many large ones take hours.
      return False
    cell[...] = True
  outer = all(
    e[0] == 0 and e[-1] == n for e, n in zip(edges, shape, strict=True)
  )
  return outer and bool(seen.all())


def _used(leaves: tuple[Leaf, ...], streams: int) -> list[int]:
  used = [0] * streams
  for leaf in leaves:
    for part in leaf.parts:
      used[part.stream] += part.size
  return used


def _digests(value: Any, count: int) -> tuple[str, ...] | None:
  if value is None:
    return None
  _require(type(value) is list and len(value) == count, "digests")
  for digest in value:
    _require(
      type(digest) is str and len(digest) == 64 and digest.isalnum(),
      "digests",
    )
  return tuple(value)


def context(*fields: Any) -> bytes:
  """Returns bytes that name one thing of one checkpoint, and nothing else."""
  return json.dumps(
    ["keyjax/checkpoint/1", *fields], separators=(",", ":")
  ).encode("ascii")


def part_context(manifest: Manifest, leaf: Leaf, part: Part) -> bytes:
  """Returns what a part is bound to: where it belongs, and in what."""
  bound = (leaf.path, leaf.dtype, leaf.shape, part.start, part.stop)
  return context("part", manifest.id, manifest.step, *bound)
