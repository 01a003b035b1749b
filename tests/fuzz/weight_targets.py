"""Weight files, key files of schemes, sealed messages, cards and rows."""

import hashlib
import json
import random
import struct
from collections.abc import Sequence
from typing import Any

import flax.serialization
import jax
import msgpack
import numpy as np
import safetensors.numpy

from keyjax import checkpoint, keys
from keyjax.errors import (
  ArgumentError,
  CheckpointContentError,
)
from tests.formats.vectors import octets, vectors
from tests.fuzz.mutate import (
  change_bytes,
  change_json,
  either,
  is_object,
  where,
)
from tests.fuzz.sources import written
from tests.fuzz.target import Finding, Target

TENSORS = {
  "a/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
  "b": np.arange(4, dtype=np.int8),
  "empty": np.zeros((0, 3), np.float16),
}


def content(tree: Any) -> Any:
  """Return the leaves of a tree as text and bytes, which can be compared."""
  leaves, treedef = jax.tree.flatten(tree)
  shown = [
    (str(x.dtype), x.shape, np.asarray(x).tobytes())
    if hasattr(x, "dtype")
    else repr(x)
    for x in leaves
  ]
  return str(treedef), shown


# --------------------------------------------------------------- safetensors


def _safetensors() -> list[bytes]:
  plain = safetensors.numpy.save(TENSORS)
  return [plain, safetensors.numpy.save(TENSORS, {"format": "pt", "b": "c"})]


def read_safetensors(data: bytes) -> Any:
  """Return tensors, which must be those that the safetensors library reads."""
  found = checkpoint.read_weights(written("w.safetensors", data))
  try:
    theirs = safetensors.numpy.load(data)
  except Exception:  # It refuses more dtypes and names.
    return content(found)
  if content(dict(found)) != content(theirs):
    raise Finding("other tensors than the safetensors library reads")
  return content(found)


def _change_header(
  rng: random.Random, data: bytes, others: Sequence[bytes]
) -> bytes:
  """Change the header as JSON, and its size with it."""
  size = int.from_bytes(data[:8], "little")
  text = change_json(rng, data[8 : 8 + size], ())
  return struct.pack("<Q", len(text)) + text + data[8 + size :]


def _index() -> list[bytes]:
  names = {"a/kernel": "one.safetensors", "b": "two.safetensors"}
  fields = {"metadata": {"total_size": 28}, "weight_map": names}
  return [json.dumps(fields).encode()]


def read_index(data: bytes) -> Any:
  """Return the tensors of the files that an index lists."""
  for name, file in json.loads(_index()[0])["weight_map"].items():
    written(file, safetensors.numpy.save({name: TENSORS[name]}))
  path = written("model.safetensors.index.json", data)
  return content(checkpoint.read_weights(path))


# -------------------------------------------------------------------- msgpack


def _msgpack() -> list[bytes]:
  tree = {"a": dict(TENSORS), "b": {"0": np.float32(2.5), "n": 3}}
  chunked = {
    "__msgpack_chunked_array__": True,
    "shape": {"0": 2, "1": 3},
    "chunks": {"0": np.arange(4.0), "1": np.arange(2.0)},
  }
  serialize = flax.serialization.msgpack_serialize
  return [serialize(tree), serialize({"c": chunked, "d": 1 + 2j})]


def read_msgpack(data: bytes) -> Any:
  """Return the tree of a msgpack file."""
  return content(checkpoint.read_weights(written("w.msgpack", data)))


_SPOILED: list[Any] = [
  msgpack.ExtType(1, msgpack.packb([[2], "O", bytes(16)])),
  msgpack.ExtType(1, msgpack.packb([[2], "(9999,9999)f4", b""])),
  msgpack.ExtType(1, msgpack.packb([[2], "i4,(", b""])),
  msgpack.ExtType(1, msgpack.packb([[2**40, 0], "<f4", b""])),
  msgpack.ExtType(1, msgpack.packb([[-1], "<f4", bytes(8)])),
  msgpack.ExtType(2, msgpack.packb([1])),
  msgpack.ExtType(3, msgpack.packb([[], "float32", bytes(4)])),
  msgpack.Timestamp(2**40, 5),
  msgpack.ExtType(9, b""),
  2**64 - 1,
  -(2**63),
  {"__msgpack_chunked_array__": True},
  {"__msgpack_chunked_array__": True, "shape": {}, "chunks": {}},
  {1: 2, "a": 3},
  "\x00",
  b"",
  None,
  [],
  float("nan"),
]


def _change_packed(
  rng: random.Random, data: bytes, others: Sequence[bytes]
) -> bytes:
  """Change a node of a msgpack document."""
  root = [msgpack.unpackb(data, strict_map_key=False)]
  places: list[tuple[Any, Any]] = [(root, 0)]
  for holder, name in places:
    node = holder[name]
    if isinstance(node, dict):
      places += [(node, key) for key in node]
    if isinstance(node, list):
      places += [(node, i) for i in range(len(node))]
  holder, name = rng.choice(places)
  node = holder[name]
  action = rng.randrange(5)
  if action == 0 and holder is not root:
    del holder[name]
  elif action == 1:
    for _ in range(rng.choice((1, 300, 600, 900))):
      node = {rng.choice(("tuple", "dict", "0", "a")): node}
    holder[name] = node
  elif isinstance(node, msgpack.ExtType) and action == 2:
    holder[name] = msgpack.ExtType(node.code, change_bytes(rng, node.data, ()))
  elif isinstance(node, bytes | str) and action == 2:
    raw = node if isinstance(node, bytes) else node.encode()
    raw = change_bytes(rng, raw, ())
    text = isinstance(node, str)
    holder[name] = raw.decode("utf-8", "replace") if text else raw
  elif action == 3 and isinstance(node, dict) and node:
    node[rng.choice(("type", "array", "x"))] = rng.choice(list(node.values()))
  else:
    holder[name] = rng.choice(_SPOILED)
  return msgpack.packb(root[0])


# ------------------------------------------------------------ keys of schemes


def _scheme_keys() -> list[bytes]:
  made = [case["file"] for case in vectors("scheme_keys")["cases"]]
  made += [case["key"] for case in vectors("keystreams")["cases"]]
  return list(map(octets, made))


def read_scheme_key(data: bytes) -> Any:
  """Return the arrays and the structure of a key."""
  key = keys.load(written("scheme.key", data))
  repr(key)
  return content(key)


def _change_scheme_key(
  rng: random.Random, data: bytes, others: Sequence[bytes]
) -> bytes:
  """Change what a file holds, and its checksum with it."""
  file = msgpack.unpackb(data)
  inner = either(_change_packed, change_bytes)(rng, file["key"], ())
  file |= {"key": inner, "sha256": hashlib.sha256(inner).digest()}
  return msgpack.packb(file)


TARGETS = [
  Target(
    name="safetensors",
    read=read_safetensors,
    seeds=_safetensors,
    refusals=(CheckpointContentError,),
    change=either(change_bytes, _change_header),
  ),
  Target(
    name="safetensors_index",
    read=read_index,
    seeds=_index,
    refusals=(CheckpointContentError,),
    change=either(change_bytes, where(is_object, change_json)),
  ),
  Target(
    name="msgpack",
    read=read_msgpack,
    seeds=_msgpack,
    refusals=(CheckpointContentError, ArgumentError),
    change=either(change_bytes, _change_packed),
  ),
  Target(
    name="scheme_key",
    read=read_scheme_key,
    seeds=_scheme_keys,
    refusals=(ValueError,),
    authentic=True,
  ),
  Target(
    name="scheme_key_contents",
    read=read_scheme_key,
    seeds=_scheme_keys,
    refusals=(ValueError,),
    change=_change_scheme_key,
  ),
]
