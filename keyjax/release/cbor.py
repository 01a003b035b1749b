"""The part of CBOR that attestation documents are written in.

Integers, byte and text strings, arrays, maps, booleans and null, each with a
length that is stated. It is read before any signature is checked: a general
reader also makes dates, patterns and shared references of what a stranger sent.

Reference:
  C. Bormann and P. Hoffman, RFC 8949, 2020.
"""

from typing import Any

_DEEPEST = 8
_SIMPLE = {20: False, 21: True, 22: None}


def decode(data: bytes) -> Any:
  """Return what bytes encode.

  Raises:
    ValueError: If they are not of this part of CBOR, or more follows.

  Example:
    >>> decode(bytes.fromhex("a201382202f6"))
    {1: -35, 2: None}
  """
  value, end = _item(data, 0, 0)
  if end != len(data):
    raise ValueError("more follows")
  return value


def octets(data: bytes) -> bytes:
  """Return the encoding of a byte string.

  Example:
    >>> octets(b"a").hex()
    '4161'
  """
  size = len(data)
  for code, width in ((24, 1), (25, 2), (26, 4)):
    if size < 24:
      return bytes([0x40 | size]) + data
    if size < 1 << 8 * width:
      return bytes([0x40 | code]) + size.to_bytes(width) + data
  raise ValueError("too long")


def _item(data: bytes, at: int, depth: int) -> tuple[Any, int]:
  """Return a value and where it ends."""
  if depth > _DEEPEST or at >= len(data):
    raise ValueError("too deep, or cut off")
  major, low = divmod(data[at], 32)
  if major == 7:
    if low not in _SIMPLE:
      raise ValueError("a value of another type")
    return _SIMPLE[low], at + 1
  number, at = _number(data, low, at + 1)
  if major < 2:
    return (number if major == 0 else -1 - number), at
  if number > len(data) - at:  # Each item takes a byte or more.
    raise ValueError("cut off")
  if major < 4:
    found = data[at : at + number]
    return (found if major == 2 else found.decode()), at + number
  if major == 4:
    return _items(data, at, number, depth)
  if major == 5:
    return _map(data, at, number, depth)
  raise ValueError("a tag")


def _number(data: bytes, low: int, at: int) -> tuple[int, int]:
  """Return the number in the head of an item, and where it ends."""
  if low < 24:
    return low, at
  width = {24: 1, 25: 2, 26: 4, 27: 8}.get(low, 0)
  if not width or at + width > len(data):
    raise ValueError("a length that is not stated, or cut off")
  return int.from_bytes(data[at : at + width]), at + width


def _items(
  data: bytes, at: int, count: int, depth: int
) -> tuple[list[Any], int]:
  found = []
  for _ in range(count):
    value, at = _item(data, at, depth + 1)
    found.append(value)
  return found, at


def _map(
  data: bytes, at: int, count: int, depth: int
) -> tuple[dict[Any, Any], int]:
  found, at = _items(data, at, 2 * count, depth)
  keys = found[::2]
  if not all(type(key) in (int, str) for key in keys):
    raise ValueError("a key of another type")
  if len(set(keys)) < count:
    raise ValueError("a key twice")
  return dict(zip(keys, found[1::2], strict=True)), at
