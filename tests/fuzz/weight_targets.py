"""Weight files, key files of schemes, sealed messages, cards and rows."""

import functools
import hashlib
import io
import json
import pathlib
import random
import struct
import tempfile
from collections.abc import Sequence
from typing import Any

import flax.serialization
import jax
import msgpack
import numpy as np
import safetensors.numpy

from keyjax import card as cards
from keyjax import checkpoint, keyring, keys, seal
from keyjax.cli import card_text
from keyjax.errors import (
  ArgumentError,
  CheckpointContentError,
  KeyringError,
  SealError,
)
from tests import cards as card_cases
from tests.formats.vectors import octets, vectors
from tests.fuzz.mutate import (
  change_bytes,
  change_json,
  either,
  keep_size,
  where,
)
from tests.fuzz.sources import golden
from tests.fuzz.target import Finding, Target

TENSORS = {
  "a/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
  "b": np.arange(4, dtype=np.int8),
  "empty": np.zeros((0, 3), np.float16),
}


@functools.cache
def _folder() -> pathlib.Path:
  return pathlib.Path(tempfile.mkdtemp())


def _write(name: str, data: bytes) -> pathlib.Path:
  path = _folder() / name
  path.write_bytes(data)
  path.chmod(0o600)
  return path


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
  found = checkpoint.read_weights(_write("w.safetensors", data))
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
    _write(file, safetensors.numpy.save({name: TENSORS[name]}))
  path = _write("model.safetensors.index.json", data)
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
  return content(checkpoint.read_weights(_write("w.msgpack", data)))


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
  key = keys.load(_write("scheme.key", data))
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


# ------------------------------------------------------------ sealed messages

_LONG = bytes(range(32))
_SHORT = bytes(range(16))


def read_sealed(data: bytes) -> Any:
  """Return what a message holds: whole, in a stream and in a slice."""
  key = _LONG if len(data) > 1000 else _SHORT
  context = b"context"
  keyring.trace_licensee(data, [])
  plain = b"golden" * (5000 if key is _LONG else 1)
  _check_slice(key, data, plain)
  streamed: list[bytes] = []
  with_error = False
  try:
    for chunk in seal.Reader(key, io.BytesIO(data), context):
      streamed.append(chunk)
  except SealError:
    with_error = True
  whole = seal.unseal(key, data, context)
  if with_error or b"".join(streamed) != whole:
    raise Finding("a stream and a message differ")
  return whole


def _check_slice(key: bytes, data: bytes, plain: bytes) -> None:
  try:
    found = seal.unseal(key, data, b"context", start=1, stop=5)
  except (SealError, ValueError):
    return
  if found != plain[1:5]:
    raise Finding("another slice without an error")


def read_sealed_array(data: bytes) -> Any:
  """Open a message inside `jit`."""
  message_key = seal.seal_key(_SHORT, b"context", salt=data[:24])
  opened, valid = seal.unseal_array(
    message_key, np.frombuffer(data, np.uint8), impl="host"
  )
  if not bool(valid):
    if np.asarray(opened).any():
      raise Finding("bytes that are not authentic")
    raise SealError
  return np.asarray(opened).tobytes()


# ---------------------------------------------------------------------- cards


@functools.cache
def _signer() -> keyring.SigningKey:
  return keyring.SigningKey("ed25519", bytes(32))


@functools.cache
def _cards() -> list[bytes]:
  card = card_cases.one_card()
  return [cards.format_card(x) for x in (card, cards.sign(card, _signer()))]


def read_signed_card(data: bytes) -> Any:
  """Return a card that its signer has vouched for."""
  card = cards.parse_card(data)
  cards.verify(card, _signer().public)
  return cards.format_card(card)


def read_card(data: bytes) -> Any:
  """Return a card and its text, without its signature."""
  card = cards.parse_card(data)
  return card_text.lines(card), cards.unknown_mechanisms(card)


def _change_card(
  rng: random.Random, data: bytes, others: Sequence[bytes]
) -> bytes:
  return change_json(rng, data, others) + b"\n"


def _is_card(data: bytes) -> bool:
  try:
    return isinstance(json.loads(data), dict)
  except (ValueError, RecursionError):
    return False


@functools.cache
def _rows() -> list[bytes]:
  return [path.read_bytes() for path in card_cases.write_rows(_folder())]


def read_rows(data: bytes) -> Any:
  """Return the card of rows."""
  rows = cards.read_rows(_write("rows", data))
  fixed = json.loads(_rows()[1])
  card = cards.make(rows + fixed, "counter")
  return cards.format_card(card)


def _change_rows(
  rng: random.Random, data: bytes, others: Sequence[bytes]
) -> bytes:
  lines = data.splitlines()
  at = rng.randrange(len(lines))
  lines[at] = change_json(rng, lines[at], ())
  return b"\n".join(lines)


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
    change=either(change_bytes, where(_is_card, change_json)),
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
  Target(
    name="sealed",
    read=read_sealed,
    seeds=lambda: [golden("sealed.bin"), golden("sealed_128.bin")],
    refusals=(SealError,),
    authentic=True,
    secrets=lambda: [repr(_LONG)],
  ),
  Target(
    name="sealed_array",
    read=read_sealed_array,
    seeds=lambda: [golden("sealed_128.bin")],
    refusals=(SealError,),
    change=keep_size,
    authentic=True,
  ),
  Target(
    name="card",
    read=read_card,
    seeds=_cards,
    refusals=(cards.CardError,),
    change=either(change_bytes, where(_is_card, _change_card)),
  ),
  Target(
    name="card_signed",
    read=read_signed_card,
    seeds=_cards,
    refusals=(cards.CardError, KeyringError),
    change=either(change_bytes, where(_is_card, _change_card)),
    authentic=True,
  ),
  Target(
    name="rows",
    read=read_rows,
    seeds=lambda: _rows()[:1],
    refusals=(cards.CardError,),
    change=either(change_bytes, _change_rows),
  ),
]
