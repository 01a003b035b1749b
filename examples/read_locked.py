"""Read keys of schemes, and unlock trees with them, without KeyJAX.

By docs/formats/scheme_keys.md and docs/formats/counter_mode.md, with the
standard library and `cryptography` alone. A leaf is its dtype, its shape and
its bytes.
"""

import hashlib
import json
import math
import re
import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

MANTISSA = {"float32": 23, "float16": 10, "bfloat16": 7}
EIGHT_BITS = re.compile(r"float8_e\dm(\d)")


# ------------------------------------------------- docs/formats/scheme_keys.md


def unpack(data):
  """Return the value of MessagePack; an array as dtype, shape, bytes."""
  value, end = _value(data, 0)
  if end != len(data):
    raise ValueError("bytes after the end")
  return value


_NUMBERS = {0xCA: ">f", 0xCB: ">d"} | {
  0xCC + i: f">{letter}" for i, letter in enumerate("BHIQbhiq")
}
_SIZED = {0xC4: ("bin", ">B"), 0xC5: ("bin", ">H"), 0xC6: ("bin", ">I")}
_SIZED |= {0xC7: ("ext", ">B"), 0xC8: ("ext", ">H"), 0xC9: ("ext", ">I")}
_SIZED |= {0xD9: ("str", ">B"), 0xDA: ("str", ">H"), 0xDB: ("str", ">I")}
_SIZED |= {0xDC: ("list", ">H"), 0xDD: ("list", ">I")}
_SIZED |= {0xDE: ("map", ">H"), 0xDF: ("map", ">I")}


def _value(data, at):
  """Return the value at an offset, and the offset after it."""
  code = data[at]
  at += 1
  if code < 0x80 or code >= 0xE0:
    return code - 256 * (code >= 0xE0), at
  if code in (0xC0, 0xC2, 0xC3):
    return {0xC0: None, 0xC2: False, 0xC3: True}[code], at
  if code in _NUMBERS:
    (number,) = struct.unpack_from(_NUMBERS[code], data, at)
    return number, at + struct.calcsize(_NUMBERS[code])
  if code < 0x90:
    kind, size = "map", code & 15
  elif code < 0xA0:
    kind, size = "list", code & 15
  elif code < 0xC0:
    kind, size = "str", code & 31
  elif 0xD4 <= code <= 0xD8:
    kind, size = "ext", 1 << (code - 0xD4)
  else:
    kind, form = _SIZED[code]
    (size,) = struct.unpack_from(form, data, at)
    at += struct.calcsize(form)
  return _sized(data, at, kind, size)


def _sized(data, at, kind, size):
  if kind in ("list", "map"):
    items = []
    for _ in range(size * (1 + (kind == "map"))):
      item, at = _value(data, at)
      items.append(item)
    pairs = zip(items[::2], items[1::2], strict=False)
    return (items if kind == "list" else dict(pairs)), at
  at += kind == "ext"  # The type.
  found = data[at : at + size]
  if kind == "ext":
    if data[at - 1] != 1:
      raise ValueError("an extension other than an array")
    shape, dtype, raw = unpack(found)
    return (dtype, shape, raw), at + size
  return (found.decode() if kind == "str" else found), at + size


def read_key(data):
  """Return a scheme's key as maps, lists and arrays."""
  file = unpack(data)
  if (
    file["keyjax"] != 1
    or hashlib.sha256(file["key"]).digest() != file["sha256"]
  ):
    raise ValueError("damaged, or of another version")
  return _node(unpack(file["key"]))


def _node(node):
  if "type" in node:
    fields = {name: _node(x) for name, x in node["fields"].items()}
    return {"type": node["type"]} | fields
  ((kind, value),) = node.items()
  if kind == "tuple":
    return [_node(value[str(i)]) for i in range(len(value))]
  if kind == "dict":
    return {name: _node(x) for name, x in value.items()}
  return json.loads(value) if kind == "leaf" else value


# ------------------------------------------------ docs/formats/counter_mode.md


def _sboxes():
  """Return the AES S-box and its inverse, as tables of 256 bytes."""
  powers, x = [], 1
  for _ in range(255):  # Powers of 3, a generator of GF(2^8).
    powers.append(x)
    x ^= (x << 1) ^ (0x11B * (x >> 7))
  box = bytearray([0x63] * 256)
  for i, x in enumerate(powers):
    inverse = powers[-i % 255]
    five = inverse * 0x101  # A byte twice, to turn it.
    turned = [(five >> (8 - n)) & 255 for n in range(5)]
    box[x] = 0x63 ^ turned[0] ^ turned[1] ^ turned[2] ^ turned[3] ^ turned[4]
  back = bytearray(256)
  for x, y in enumerate(box):
    back[y] = x
  return bytes(box), bytes(back)


SBOX, UNBOX = _sboxes()


def _big_endian(array):
  """Return words of an array as big-endian bytes."""
  raw = array[2]
  return b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))


def _counter_pads(key, sizes):
  """Return the keystream of each leaf: whole blocks for each."""
  rounds = key["round_keys"][1][0] - 1
  aes = _big_endian(key["round_keys"])[: {10: 16, 14: 32}[rounds]]
  nonce = _big_endian(key["nonce"]) if "nonce" in key else bytes(16)
  mode = modes.CTR(nonce)
  stream = Cipher(algorithms.AES(aes), mode).encryptor()
  return [stream.update(bytes(-(-n // 16) * 16))[:n] for n in sizes]


def _chain(master, count):
  """Return words after the master key in the AES key schedule, as bytes."""
  words = [master[i : i + 4] for i in range(0, len(master), 4)]
  size, constant = len(words), 1
  for i in range(size, size + count):
    last = words[-1]
    if i % size == 0:
      last = (last[1:] + last[:1]).translate(SBOX)
      last = bytes([last[0] ^ constant]) + last[1:]
      constant = (constant << 1) ^ (0x11B * (constant >> 7))
    elif size == 8 and i % size == 4:
      last = last.translate(SBOX)
    words.append(_xor(words[i - size], last))
  return words[size:]


def _xor(a, b):
  return bytes(x ^ y for x, y in zip(a, b, strict=True))


def _chain_pads(key, sizes, widths):
  """Return the keystream of each leaf; elements take a word from its top."""
  counts = [-(-n // 4) for n in sizes]
  stream = b"".join(_chain(_big_endian(key["master"]), sum(counts)))
  pads, at = [], 0
  for count, size, width in zip(counts, sizes, widths, strict=True):
    words = stream[4 * at : 4 * (at + count)]
    turned = [words[i : i + width][::-1] for i in range(0, len(words), width)]
    pads.append(b"".join(turned)[:size])
    at += count
  return pads


def _mantissa(dtype):
  """Return the number of bits of a mantissa."""
  found = EIGHT_BITS.match(dtype)
  return int(found[1]) if found else MANTISSA[dtype]


def _without_noise(data, pad, width, mantissa):
  """Undo keyed noise: signs and mantissas are under the pad."""
  mask = 1 << (8 * width - 1) | ((1 << mantissa) - 1)
  bits = mask.to_bytes(width, "little") * (len(pad) // width)
  return bytes(x ^ (y & m) for x, y, m in zip(data, pad, bits, strict=True))


def _without_mark(data, pad, width, mantissa, depth):
  """Undo a licensee's mark: magnitudes moved by a step."""
  top, step = 1 << (8 * width - 1), 1 << (mantissa - depth)
  first, last = 1 << mantissa, top - (1 << mantissa)
  words = []
  for i in range(0, len(data), width):
    word = int.from_bytes(data[i : i + width], "little")
    offset = int.from_bytes(pad[i : i + width], "little") % (2 * step)
    moved = word % top + offset
    block = moved - moved % (2 * step)
    if first + offset <= block and block + 2 * step <= last + offset:
      moved ^= step
    words.append(((word & top) | (moved - offset)).to_bytes(width, "little"))
  return b"".join(words)


def unlock(key, leaves):
  """Return the plain leaves of a tree.

  Args:
    key: Key from `read_key`.
    leaves: Leaves by path.
  """
  spec = [leaf for leaf in key["spec"] if leaf[3]]
  sizes = [len(leaves[path][2]) for path, *_ in spec]
  counts = [math.prod(shape) for _, shape, *_ in spec]
  widths = [n // count for n, count in zip(sizes, counts, strict=True)]
  if key["type"].endswith("ChainKey"):
    pads = _chain_pads(key, sizes, widths)
  else:
    pads = _counter_pads(key, sizes)
  opened = dict(leaves)
  for (path, shape, dtype, _), width, pad in zip(
    spec, widths, pads, strict=True
  ):
    data = leaves[path][2]
    if key["type"].endswith("NoiseKey"):
      data = _without_noise(data, pad, width, _mantissa(dtype))
    elif key["type"].endswith("MarkKey"):
      args = (width, _mantissa(dtype), key["depth"])
      data = _without_mark(data, pad, *args)
    else:
      data = _xor(data.translate(UNBOX), pad)
    opened[path] = (dtype, shape, data)
  return opened
