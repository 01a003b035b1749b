"""Mutations of bytes and of JSON, all from one seeded generator."""

import base64
import copy
import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

NUMBERS = [0, 1, -1, 2, 127, 128, 255, 256, 4096, 65535, 65536]
NUMBERS += [2**n + d for n in (24, 31, 32, 53, 61, 62, 63, 64) for d in (-1, 0)]
NUMBERS += [10**30, 10**400, 10**4000]
TEXTS = ["", "a", "\x00", "../x", "\ud800", "é", "\u2028", "A" * 300, "0", "-1"]
VALUES = [None, True, False, 0.5, -0.0, 1e308, [], {}, [[]], {"": None}]
TOKENS = [b"\x00", b"\n", b" ", b"#", b":", b'"', b"{", b"[", b",", b"\\ud800"]
TOKENS += [b"NaN", b"1e999", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"=", b"-"]

Change = Callable[[random.Random, bytes, Sequence[bytes]], bytes]


def change_bytes(
  rng: random.Random, data: bytes, others: Sequence[bytes]
) -> bytes:
  """Return bytes with a few edits.

  Args:
    rng: Generator of all choices.
    data: Bytes to change.
    others: Inputs of the same kind, to splice with.
  """
  for _ in range(rng.choice((1, 1, 1, 2, 4))):
    data = rng.choice(_EDITS)(rng, data, others)
  return data


def keep_size(
  rng: random.Random, data: bytes, others: Sequence[bytes]
) -> bytes:
  """Return bytes of the same number, a few of which differ."""
  del others
  for _ in range(rng.choice((1, 1, 3))):
    data = _flip(rng, data, ())
  return data


def _span(rng: random.Random, data: bytes) -> tuple[int, int]:
  start = rng.randint(0, len(data))
  return start, min(len(data), start + rng.choice((1, 2, 4, 8, 16, 64, 999)))


def _flip(rng: random.Random, data: bytes, _: Any) -> bytes:
  if not data:
    return b"\x00"
  at = rng.randrange(len(data))
  return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _truncate(rng: random.Random, data: bytes, _: Any) -> bytes:
  return data[: rng.randint(0, len(data))]


def _remove(rng: random.Random, data: bytes, _: Any) -> bytes:
  start, end = _span(rng, data)
  return data[:start] + data[end:]


def _repeat(rng: random.Random, data: bytes, _: Any) -> bytes:
  start, end = _span(rng, data)
  return data[:end] + data[start:end] * rng.choice((1, 1, 2, 50)) + data[end:]


def _insert(rng: random.Random, data: bytes, _: Any) -> bytes:
  at = rng.randint(0, len(data))
  new = rng.choice((rng.choice(TOKENS), rng.randbytes(rng.randint(1, 9))))
  return data[:at] + new + data[at:]


def _move(rng: random.Random, data: bytes, _: Any) -> bytes:
  start, end = _span(rng, data)
  rest = data[:start] + data[end:]
  at = rng.randint(0, len(rest))
  return rest[:at] + data[start:end] + rest[at:]


def _splice(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
  other = rng.choice(others or [data])
  if rng.random() < 0.5:
    cut = rng.random()
    return data[: int(cut * len(data))] + other[int(cut * len(other)) :]
  start, end = _span(rng, other)
  at = rng.randint(0, len(data))
  return data[:at] + other[start:end] + data[at:]


def _binary_number(rng: random.Random, data: bytes, _: Any) -> bytes:
  size = rng.choice((1, 2, 4, 8))
  at = rng.randint(0, max(0, len(data) - size))
  value = rng.choice(NUMBERS) % 2 ** (8 * size)
  order: Any = rng.choice(("little", "big"))
  return data[:at] + value.to_bytes(size, order) + data[at + size :]


def _decimal_number(rng: random.Random, data: bytes, _: Any) -> bytes:
  found = list(re.finditer(rb"\d+", data))
  if not found:
    return _flip(rng, data, ())
  number = rng.choice(found)
  new = str(rng.choice(NUMBERS)).encode()
  return data[: number.start()] + new + data[number.end() :]


_EDITS = (
  _flip,
  _flip,
  _truncate,
  _remove,
  _repeat,
  _insert,
  _move,
  _splice,
  _binary_number,
  _decimal_number,
)


def change_json(
  rng: random.Random, data: bytes, others: Sequence[bytes]
) -> bytes:
  """Return a JSON document with other values, in canonical form."""
  value = json.loads(data)
  spare = json.loads(rng.choice(others)) if others else value
  value = change_value(rng, value, spare)
  return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def change_value(rng: random.Random, value: Any, spare: Any) -> Any:
  """Return a JSON value with a few nodes removed, replaced or repeated.

  Args:
    rng: Generator of all choices.
    value: Value, which stays as it is.
    spare: Value whose nodes are used as replacements.
  """
  root = [copy.deepcopy(value)]
  for _ in range(rng.choice((1, 1, 1, 2, 3))):
    holder, key = rng.choice(_places(root))
    node = holder[key]
    action = rng.randrange(7)
    if action == 0 and holder is not root:
      del holder[key]
    elif action == 1 and isinstance(holder, list) and holder is not root:
      holder[key:key] = [copy.deepcopy(node)] * rng.choice((1, 3))
    elif action == 2:
      donor, name = rng.choice(_places([spare]))
      holder[key] = copy.deepcopy(donor[name])
    elif action == 3 and isinstance(holder, dict):
      holder[rng.choice(TEXTS)] = copy.deepcopy(node)
    elif action == 4:
      kind: Sequence[Any] = rng.choice((VALUES, NUMBERS, TEXTS))
      holder[key] = copy.deepcopy(rng.choice(kind))
    elif action == 5:
      for _ in range(rng.choice((1, 2, 70, 2000))):
        node = [node]
      holder[key] = node
    else:
      holder[key] = _changed_leaf(rng, node)
  return root[0]


def _changed_leaf(rng: random.Random, node: Any) -> Any:
  if isinstance(node, str):
    return _changed_text(rng, node)
  if isinstance(node, int):
    return node + rng.choice((-1, 1, 2**31, 2**62))
  return copy.deepcopy(rng.choice(VALUES))


def _changed_text(rng: random.Random, text: str) -> str:
  try:
    raw = base64.b64decode(text, validate=True)
  except ValueError:
    raw = b""
  if len(raw) > 2 and rng.random() < 0.7:
    return base64.b64encode(change_bytes(rng, raw, ())).decode()
  data = change_bytes(rng, text.encode("utf-8", "surrogatepass"), ())
  return data.decode("utf-8", "replace")


def _places(root: list[Any]) -> list[tuple[Any, Any]]:
  """Return the holder and the key of every node."""
  found: list[tuple[Any, Any]] = [(root, 0)]
  for holder, key in found:
    node = holder[key]
    if isinstance(node, dict):
      found += [(node, name) for name in node]
    elif isinstance(node, list):
      found += [(node, i) for i in range(len(node))]
  return found


def is_object(data: bytes) -> bool:
  """Return whether bytes are a JSON object."""
  try:
    return isinstance(json.loads(data), dict)
  except (ValueError, RecursionError):
    return False


def either(*changes: Change) -> Change:
  """Return a change that is one of several each time."""
  return lambda rng, data, others: rng.choice(changes)(rng, data, others)


def where(test: Callable[[bytes], bool], change: Change) -> Change:
  """Return a change of some inputs; others are changed as bytes.

  Args:
    test: Whether the change applies to an input.
    change: The change.
  """

  def apply(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    if not test(data):
      return change_bytes(rng, data, others)
    return change(rng, data, [x for x in others if test(x)])

  return apply
