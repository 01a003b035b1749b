"""Trees of arrays as Orbax stores them.

What Orbax does not store is recorded in the metadata of the tree, for
`restore_plain`: the shape of empty arrays, dtypes that TensorStore does not
have, tuples, keys of dicts that are numbers, and names that would be one. Other
readers see zeros, bytes, lists, text and numbered leaves.
"""

import json
import numbers
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from keyjax.checkpoint.errors import CheckpointContentError
from keyjax.checkpoint.format import tree_structure
from keyjax.checkpoint.format.manifest import DTYPES
from keyjax.checkpoint.parts import rng_keys
from keyjax.checkpoint.storage import locations

Keys = tuple[str, ...]
_RECORD = "keyjax"
_VERSION = 1
# TensorStore does not have them: stored as bytes.
_AS_BYTES = ("uint2", "uint4", "float8_e4m3")


class StoredArray(NamedTuple):
  """What is known about a leaf before it is read.

  Attributes:
    dtype: Name of its dtype; empty for what is not an array.
    shape: Its shape; of PRNG keys, that of their words.
    generator: Name of the generator of PRNG keys; empty for others.
    is_number: Whether it was a Python number.
    replaced: Whether other values are stored for it; see the module.
    what: Name of Orbax's metadata class, for errors.
  """

  dtype: str
  shape: tuple[int, ...]
  generator: str
  is_number: bool
  replaced: bool
  what: str

  def describe(self) -> str:
    """Return a text such as `uint32[2, 3]` or `key<fry>[]`."""
    if self.generator:
      return rng_keys.describe(self.generator, self.shape)
    return f"{self.dtype}{list(self.shape)}" if self.dtype else ""


class StoredTree(NamedTuple):
  """The tree of a folder, of which no array was read.

  Attributes:
    arrays: Its leaves by their keys.
    keys: Keys of the leaves in the order of `metadata`, which may name them
      otherwise.
    metadata: Orbax's metadata, in the structure that it restores.
    structure: Structure of the tree that was saved; None for that of
      `metadata`.
  """

  arrays: dict[Keys, StoredArray]
  keys: list[Keys]
  metadata: Any
  structure: Any


def with_keys(tree: Any) -> list[tuple[Keys, Any]]:
  """Return the leaves of a tree, each with the keys that lead to it.

  Example:
    >>> with_keys({"a": [3.0]})
    [(('a', '0'), 3.0)]
  """
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return [(tuple(map(_key, path)), x) for path, x in leaves]


def _key(entry: Any) -> str:
  for field in ("key", "name", "idx"):
    if hasattr(entry, field):
      return str(getattr(entry, field))
  return str(entry)


def to_orbax(tree: Any) -> tuple[Any, dict[str, Any] | None]:
  """Return a tree that Orbax can write, and its custom metadata."""
  leaves = with_keys(tree)
  _check_no_path_twice([keys for keys, _ in leaves])
  # Orbax joins keys by dots: `a.b` next to `a: {b}` would be one name, as would
  # `a/` next to `a`. It refuses an array or a number that is the whole tree.
  names = {".".join(keys).rstrip("/") for keys, _ in leaves}
  is_alone = isinstance(tree, jax.Array | np.generic | int | float)
  by_number = len(names) < len(leaves) or is_alone
  replaced = [
    [i, *_describe_replaced(keys, x)]
    for i, (keys, x) in enumerate(leaves)
    if _is_replaced(x)
  ]
  written = jax.tree.map(lambda x: _replace(_with_bools(x)), tree)
  has_others = _has_tuples(tree) or _has_number_keys(tree)
  if not (by_number or replaced or has_others):
    return written, None
  record = {
    "by_number": by_number,
    "replaced": replaced,
    "tree": tree_structure.describe(tree),
    "version": _VERSION,
  }
  if by_number:
    values = jax.tree.leaves(written)
    written = {_number_name(i): x for i, x in enumerate(values)}
  return written, {_RECORD: record}


def _check_no_path_twice(keys: list[Keys]) -> None:
  if len(set(keys)) < len(keys):
    twice = next(x for x in keys if keys.count(x) > 1)
    raise ValueError(f"two leaves have the path {'/'.join(twice)}")


def _number_name(number: int) -> str:
  return f"{number:08d}"


def _is_replaced(leaf: Any) -> bool:
  if not hasattr(leaf, "dtype"):
    return False
  return 0 in np.shape(leaf) or str(leaf.dtype) in _AS_BYTES


def _describe_replaced(keys: Keys, leaf: Any) -> tuple[str, list[int], str]:
  """Return the dtype, the shape and the generator that are recorded."""
  generator = ""
  if rng_keys.is_rng(leaf):
    generator = rng_keys.generator("/".join(keys), leaf)
    leaf = jax.random.key_data(leaf)
  return np.dtype(leaf.dtype).name, list(np.shape(leaf)), generator


def _with_bools(leaf: Any) -> Any:
  """Return a leaf whose bools are bytes 0 and 1, as TensorStore has them.

  A view of other bytes may have any, which stand for True.
  """
  if getattr(leaf, "dtype", None) != np.bool_:
    return leaf
  if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
    return leaf
  data = np.asarray(leaf).view(np.uint8)
  if not np.any(data > 1):
    return leaf
  if isinstance(leaf, jax.Array):
    return jax.device_put(data != 0, leaf.sharding)
  return data != 0


def _replace(leaf: Any) -> Any:
  """Return what Orbax writes for a leaf: for an empty array, one zero."""
  if not _is_replaced(leaf):
    return leaf
  if rng_keys.is_rng(leaf):
    leaf = jax.random.key_data(leaf)
  as_bytes = str(leaf.dtype) in _AS_BYTES
  if 0 in np.shape(leaf):
    return np.zeros((1,), np.uint8 if as_bytes else leaf.dtype)
  if isinstance(leaf, jax.Array):
    is_float = leaf.dtype == "float8_e4m3"
    to_bytes = jax.lax.bitcast_convert_type if is_float else jnp.astype
    return to_bytes(leaf, jnp.uint8)
  return np.asarray(leaf).view(np.uint8)


def _has_tuples(tree: Any) -> bool:
  """Return whether there are tuples, which Orbax would return as lists."""
  is_tuple = lambda x: isinstance(x, tuple)  # noqa: E731
  return any(map(is_tuple, jax.tree.leaves(tree, is_leaf=is_tuple)))


def _has_number_keys(tree: Any) -> bool:
  paths = jax.tree_util.tree_leaves_with_path(tree)
  return any(
    isinstance(getattr(entry, "key", None), numbers.Integral)
    for path, _ in paths
    for entry in path
    if isinstance(entry, jax.tree_util.DictKey)
  )


def read_tree(path: Any, checkpointer: ocp.Checkpointer) -> StoredTree:
  """Read what a folder says about its tree.

  Args:
    path: Folder of the tree.
    checkpointer: Checkpointer with a handler of PyTrees.

  Raises:
    CheckpointContentError: If it holds no tree.
  """
  found = checkpointer.metadata(path).item_metadata
  if found is None:
    raise CheckpointContentError("it holds no tree in the clear")
  custom = getattr(found, "custom_metadata", None)
  record = custom.get(_RECORD) if isinstance(custom, dict) else None
  generators = _generators(path)
  arrays = {
    keys: _stored_array(x, generators.get(".".join(keys), ""))
    for keys, x in with_keys(found.tree)
  }
  if record is None:
    return StoredTree(
      arrays=arrays, keys=list(arrays), metadata=found.tree, structure=None
    )
  return _with_record(arrays, found.tree, record)


def _stored_array(metadata: Any, generator: str) -> StoredArray:
  dtype = getattr(metadata, "dtype", None)
  is_array = dtype is not None and hasattr(metadata, "shape")
  return StoredArray(
    dtype=str(np.dtype(dtype)) if is_array else "",
    shape=tuple(metadata.shape) if is_array else (),
    generator=generator,
    is_number=isinstance(metadata, ocp.metadata.value.ScalarMetadata),
    replaced=False,
    what=type(metadata).__name__.removesuffix("Metadata").lower(),
  )


def _with_record(
  arrays: dict[Keys, StoredArray], metadata: Any, record: Any
) -> StoredTree:
  """Return a tree with what was recorded about it, which is not trusted."""
  version = record.get("version") if isinstance(record, dict) else None
  if isinstance(record, dict) and version != _VERSION:
    raise CheckpointContentError(
      f"what KeyJAX recorded about its tree has version {version!r:.20}: this "
      f"release reads version {_VERSION}"
    )
  try:
    keys, arrays = _apply_record(arrays, record)
  except (
    CheckpointContentError,
    KeyError,
    IndexError,
    TypeError,
    ValueError,
  ):
    raise CheckpointContentError(
      "what KeyJAX recorded about its tree is damaged"
    ) from None
  return StoredTree(
    arrays=arrays, keys=keys, metadata=metadata, structure=record["tree"]
  )


def _apply_record(
  arrays: dict[Keys, StoredArray], record: dict[str, Any]
) -> tuple[list[Keys], dict[Keys, StoredArray]]:
  """Return the keys in the order of `arrays`, and the leaves by them."""
  tree_structure.check(record["tree"], len(arrays))
  keys = tree_structure.leaf_keys(record["tree"])
  stored_keys = keys
  if record["by_number"]:
    stored_keys = [(_number_name(i),) for i in range(len(keys))]
  key_of = dict(zip(stored_keys, keys, strict=True))
  found = {key_of[x]: array for x, array in arrays.items()}
  if len(found) < len(keys):
    raise ValueError("a name twice")
  for number, dtype, shape, generator in record["replaced"]:
    stored = found[keys[number]]
    is_shape = all(type(n) is int and n >= 0 for n in shape)
    is_empty = 0 in shape and stored.shape == (1,)
    if not is_shape or not (is_empty or tuple(shape) == stored.shape):
      raise ValueError("a shape")
    if dtype not in DTYPES or type(generator) is not str:
      raise ValueError("a dtype")
    found[keys[number]] = stored._replace(
      dtype=dtype, shape=tuple(shape), generator=generator, replaced=True
    )
  return [key_of[x] for x in arrays], found


def _generators(path: Any) -> dict[str, str]:
  """Return the generators of PRNG keys by the names of their leaves.

  Orbax records them, and has no function that tells them.
  """
  folder = path / "array_metadatas"
  found: dict[str, str] = {}
  with locations.bucket_errors(path):
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    texts = [file.read_text() for file in files]
  for text in texts:
    try:
      for one in json.loads(text)["array_metadatas"]:
        fields = one["array_metadata"]
        name = (fields["ext_metadata"] or {}).get("random_key_impl")
        if isinstance(name, str):
          found[fields["param_name"]] = name
    except (ValueError, KeyError, TypeError):
      raise CheckpointContentError("its array_metadatas are damaged") from None
  return found
