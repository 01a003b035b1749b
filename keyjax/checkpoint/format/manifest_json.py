"""Manifests as canonical JSON, padded with spaces, in one sealed message.

The parser trusts nothing: everyone who holds the data key can write a
manifest. Sizes are checked before anything is parsed, and everything else
before anything is allocated.
"""

import math
import re
from typing import Any

import numpy as np

from keyjax import seal
from keyjax.checkpoint.errors import CheckpointContentError
from keyjax.checkpoint.format import layout, origin, tree_structure
from keyjax.checkpoint.format.manifest import (
  DTYPES,
  KINDS,
  RNG_KIND,
  Leaf,
  Manifest,
  message_context,
  used_bytes,
)
from keyjax.errors import KeyringError
from keyjax.keyring.data_keys import leaf_key
from keyjax.keyring.encoding import dump, is_name, parse

VERSION = 1
# With PRNG keys or an origin, which releases that write only 1 cannot read.
VERSION_WITH_ORIGIN = 2
VERSION_WITH_NAMES = 3  # The name of the model, the id of the run, or both.
MAX_SIZE = 1 << 26
MAX_SEALED_SIZE = seal.size_of_sealed(MAX_SIZE)
MAX_METADATA = 1 << 20
_MAX_ITEMS = 1 << 22
MAX_RANK = 32
MAX_PATH = 4096
_MIN_SIZE = 1 << 12
_RNG_NAME = re.compile(r"[a-z0-9_]{1,32}")
_FIELDS = {
  "digests",
  "id",
  "leaves",
  "metadata",
  "step",
  "streams",
  "tree",
}


def seal_manifest(
  data_key: bytes, manifest: Manifest, salt: bytes | None = None
) -> bytes:
  """Return a manifest as one sealed message; None draws a random salt.

  Raises:
    ValueError: If the tree or the metadata cannot be stored.
  """
  return seal.seal(
    leaf_key(data_key, "manifest", ""),
    to_bytes(manifest),
    message_context("manifest", manifest.id),
    salt=salt,
  )


def open_manifest(data_key: bytes, checkpoint: str, sealed: bytes) -> Manifest:
  """Open and parse a manifest.

  Raises:
    CheckpointContentError: If it does not open, or is not a manifest of this
      checkpoint.
  """
  key = leaf_key(data_key, "manifest", "")
  try:
    data = seal.unseal(key, sealed, message_context("manifest", checkpoint))
  except seal.SealError:
    raise CheckpointContentError(
      "the manifest does not open: it is damaged, or of another checkpoint"
    ) from None
  manifest = from_bytes(data)
  if manifest.id != checkpoint:
    raise CheckpointContentError("the manifest names another checkpoint")
  return manifest


def to_bytes(manifest: Manifest) -> bytes:
  """Return a manifest as padded JSON.

  Raises:
    ValueError: If the metadata is not JSON, or something is too large.
  """
  leaves = [
    [x.path, x.dtype, x.shape, x.kind, [(*p.box, p.stream) for p in x.parts]]
    for x in manifest.leaves
  ]
  try:
    if len(dump(manifest.metadata)) > MAX_METADATA:
      raise ValueError(f"metadata has more than {MAX_METADATA} bytes")
    data = dump(_optional_fields(manifest) | {"leaves": leaves})
  except KeyringError as error:
    raise ValueError(f"metadata: {error}") from None
  data = data.ljust(layout.padme(max(len(data), _MIN_SIZE)))
  try:
    from_bytes(data)  # Write only what can be read.
  except CheckpointContentError as error:
    raise ValueError(f"this tree cannot be stored: {error}") from None
  return data


def _optional_fields(manifest: Manifest) -> dict[str, Any]:
  """Return the fields of a manifest, with its version, origin and names."""
  fields = manifest._asdict()
  found = fields.pop("origin")
  names = {"name": fields.pop("name"), "run": fields.pop("run")}
  json = {"origin": None if found is None else origin.to_json(found)}
  if any(names.values()):
    return fields | json | names | {"version": VERSION_WITH_NAMES}
  if found is None and not any(leaf.rng for leaf in manifest.leaves):
    return fields | {"version": VERSION}
  return fields | json | {"version": VERSION_WITH_ORIGIN}


def from_bytes(data: bytes) -> Manifest:
  """Parse a manifest.

  Raises:
    CheckpointContentError: If it is not a manifest, is inconsistent, or has
      another version.
  """
  try:
    fields = parse(
      data.rstrip(b" "), "a manifest", size=MAX_SIZE, items=_MAX_ITEMS
    )
  except KeyringError as error:
    raise CheckpointContentError(str(error)) from None
  version = fields.pop("version", None)
  if type(version) is not int or not VERSION <= version <= VERSION_WITH_NAMES:
    raise CheckpointContentError(
      f"a manifest of version {version!r:.20}: this release of KeyJAX reads "
      f"versions {VERSION} to {VERSION_WITH_NAMES}"
    )
  is_newer = version >= VERSION_WITH_ORIGIN
  expected = _FIELDS | {"origin"} if is_newer else _FIELDS
  has_names = version == VERSION_WITH_NAMES
  expected |= {"name", "run"} if has_names else set()
  _require(set(fields) == expected, "missing or unknown fields")
  names = [fields.get("name", ""), fields.get("run", "")]
  _require(all(x == "" or is_name(x) for x in names), "a name")
  _require(any(names) == has_names, "no name")
  _require(_is_id(fields["id"]), "no id")
  _require(_is_count(fields["step"]), "no step")
  _require(type(fields["metadata"]) is dict, "no metadata")
  _require(len(dump(fields["metadata"])) <= MAX_METADATA, "too much metadata")
  count = _stream_count(fields["streams"])
  leaves = _leaves(fields["leaves"], count)
  _require(is_newer or not any(x.rng for x in leaves), "a kind of leaf")
  tree_structure.check(fields["tree"], len(leaves))
  streams = layout.choose_streams(used_bytes(leaves, count))
  _require(fields["streams"] == list(streams), "streams of another size")
  digests = _digests(fields["digests"], sum(len(x.parts) for x in leaves))
  return Manifest(
    id=fields["id"],
    step=fields["step"],
    leaves=leaves,
    tree=fields["tree"],
    metadata=fields["metadata"],
    streams=streams,
    digests=digests,
    origin=_origin(fields.get("origin"), len(leaves)),
    name=names[0],
    run=names[1],
  )


def _origin(value: Any, leaves: int) -> origin.Origin | None:
  return None if value is None else origin.from_json(value, leaves)


def _require(condition: bool, what: str) -> None:
  if not condition:
    raise CheckpointContentError(f"the manifest is not well-formed: {what}")


def _is_id(value: Any) -> bool:
  return (
    type(value) is str
    and len(value) == 32
    and all(c in "0123456789abcdef" for c in value)
  )


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
  """Check every leaf, and compute the offsets of its parts."""
  _require(type(value) is list and bool(value), "no leaves")
  for leaf in value:
    _require(type(leaf) is list and len(leaf) == 5, "a leaf")
    check_leaf(leaf, streams)
  _require(len({x[0] for x in value}) == len(value), "a path twice")
  itemsizes = [DTYPES[dtype].itemsize for _, dtype, *_ in value]
  boxes = [[(tuple(a), tuple(b), s) for a, b, s in x[4]] for x in value]
  parts, _ = layout.assign_offsets(boxes, itemsizes, streams)
  return tuple(
    Leaf(path, dtype, tuple(shape), kind, tuple(leaf_parts))
    for (path, dtype, shape, kind, _), leaf_parts in zip(
      value, parts, strict=True
    )
  )


def check_leaf(leaf: list[Any], streams: int) -> None:
  """Check a leaf as JSON: path, dtype, shape, kind and parts.

  Raises:
    CheckpointContentError: If it is not well-formed.
  """
  path, dtype, shape, kind, parts = leaf
  _require(type(path) is str and len(path) <= MAX_PATH, "a path")
  _require(path.isascii() or origin.is_text(path), "a path")
  _require(type(dtype) is str and dtype in DTYPES, "a dtype")
  _require(type(kind) is str, "a kind of leaf")
  is_rng = kind.startswith(RNG_KIND) and dtype == "uint32"
  is_rng = is_rng and bool(_RNG_NAME.fullmatch(kind.removeprefix(RNG_KIND)))
  _require(is_rng or kind in KINDS, "a kind of leaf")
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
  _require(parts_cover(parts, shape), "parts that do not cover their leaf once")


def _is_index(value: Any) -> bool:
  return (
    type(value) is list
    and len(value) <= MAX_RANK
    and all(map(_is_count, value))
  )


def parts_cover(parts: list[Any], shape: list[int]) -> bool:
  """Return whether boxes inside a leaf hold each of its elements once."""
  if 0 in shape:
    return len(parts) == 1
  edges = [
    sorted({e for start, stop, _ in parts for e in (start[i], stop[i])})
    for i in range(len(shape))
  ]
  # Shards form a grid: parts that need many more cells are not from KeyJAX.
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
    if cell.any():  # Stop at once: many large overlaps take hours.
      return False
    cell[...] = True
  reaches_ends = all(
    e[0] == 0 and e[-1] == n for e, n in zip(edges, shape, strict=True)
  )
  return reaches_ends and bool(seen.all())


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
