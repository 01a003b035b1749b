"""Headers of safetensors files.

A file is the size of its header (8 bytes, little-endian), the header (JSON,
padded with spaces), and the tensors without gaps. `write_header` returns, byte
for byte, the header that the safetensors library writes for the same tensors.

References:
  https://github.com/huggingface/safetensors
"""

import json
import math
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from keyjax.checkpoint.format.manifest import DTYPES
from keyjax.checkpoint.format.origin import is_text

MAX_HEADER_BYTES = 100_000_000  # As in the library.
SIZE_BYTES = 8
METADATA = "__metadata__"
_MAX_RANK = 32
# In the order in which the library sorts tensors, last first.
_NAMES = {
  "BOOL": "bool",
  "U8": "uint8",
  "I8": "int8",
  "F8_E5M2": "float8_e5m2",
  "F8_E4M3": "float8_e4m3fn",
  "F8_E8M0": "float8_e8m0fnu",
  "F8_E4M3FNUZ": "float8_e4m3fnuz",
  "F8_E5M2FNUZ": "float8_e5m2fnuz",
  "I16": "int16",
  "U16": "uint16",
  "F16": "float16",
  "BF16": "bfloat16",
  "I32": "int32",
  "U32": "uint32",
  "F32": "float32",
  "C64": "complex64",
  "F64": "float64",
  "I64": "int64",
  "U64": "uint64",
}
_DTYPES = {name: dtype for name, dtype in _NAMES.items() if dtype in DTYPES}
_CODES = {dtype: name for name, dtype in _DTYPES.items()}
_RANK = {dtype: i for i, dtype in enumerate(_NAMES.values())}

Metadata = tuple[tuple[str, str], ...]


class Tensor(NamedTuple):
  """A tensor of a file.

  Attributes:
    name: Name, which may have any characters.
    dtype: Name of the dtype in NumPy, such as `float8_e4m3fn`.
    shape: Shape.
  """

  name: str
  dtype: str
  shape: tuple[int, ...]

  @property
  def nbytes(self) -> int:
    """Size in bytes."""
    return math.prod(self.shape) * DTYPES[self.dtype].itemsize


class Header(NamedTuple):
  """What a header says.

  Attributes:
    tensors: Tensors in the order of their data, which follow each other.
    metadata: Pairs of `__metadata__` in their order; None if it is missing.
    text: The header as it is in the file, with its padding.
  """

  tensors: tuple[Tensor, ...]
  metadata: Metadata | None
  text: bytes

  @property
  def is_usual(self) -> bool:
    """Whether the library would have written the same header."""
    return write_header(in_usual_order(self.tensors), self.metadata) == (
      self.text
    )


class HeaderError(Exception):
  """A header is refused; the message says why."""


def in_usual_order(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
  """Return tensors in the order in which the library writes them."""
  return tuple(sorted(tensors, key=lambda t: (-_RANK[t.dtype], t.name)))


def check_tensor(name: str, dtype: str) -> None:
  """Raise a HeaderError if a file cannot hold a tensor.

  Example:
    >>> check_tensor("w", "float8_e5m2")
  """
  if dtype not in _CODES:
    raise HeaderError(
      f"leaf {name} is of {dtype}, which safetensors does not support: use "
      "another format, or cast it"
    )
  if name == METADATA or not is_text(name):
    raise HeaderError(f"a tensor cannot have the name {name!r}")


def write_header(tensors: Sequence[Tensor], metadata: Metadata | None) -> bytes:
  """Return the header of tensors in this order, padded to 8 bytes."""
  fields: dict[str, Any] = {}
  if metadata is not None:
    fields[METADATA] = dict(metadata)
  offset = 0
  for tensor in tensors:
    end = offset + tensor.nbytes
    fields[tensor.name] = {
      "dtype": _CODES[tensor.dtype],
      "shape": tensor.shape,
      "data_offsets": (offset, end),
    }
    offset = end
  text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
  data = text.encode()
  return data + b" " * (-len(data) % SIZE_BYTES)


def size_prefix(header: bytes) -> bytes:
  """Return the bytes that precede a header."""
  return struct.pack("<Q", len(header))


def read_size(prefix: bytes, file_size: int) -> int:
  """Return the size of a header.

  Args:
    prefix: First 8 bytes of the file.
    file_size: Size of the file.

  Raises:
    HeaderError: If they do not precede a header.
  """
  if len(prefix) < SIZE_BYTES:
    raise HeaderError("it is damaged, or is not a safetensors file")
  (size,) = struct.unpack("<Q", prefix)
  if size > MAX_HEADER_BYTES or size > file_size - SIZE_BYTES:
    raise HeaderError("it is damaged, or is not a safetensors file")
  return size


def read_header(text: bytes, data_size: int) -> Header:
  """Parse a header.

  Args:
    text: The header, untrusted.
    data_size: Bytes of the file that follow it.

  Raises:
    HeaderError: If it is malformed, has a dtype that is not supported, or
      does not describe all bytes of the file.
  """
  fields = _parse(text)
  metadata = _metadata(fields.pop(METADATA, None))
  found = [_tensor(name, value) for name, value in fields.items()]
  found.sort(key=lambda one: one[1:])
  end = 0
  for tensor, start, stop in found:
    if start != end or stop - start != tensor.nbytes:
      raise HeaderError(
        f"it is damaged: the offsets of {tensor.name!r:.80} differ"
      )
    end = stop
  if end != data_size:
    raise HeaderError(f"it is damaged: {data_size} bytes of tensors, not {end}")
  return Header(
    tensors=tuple(tensor for tensor, *_ in found), metadata=metadata, text=text
  )


def _parse(text: bytes) -> dict[str, Any]:
  try:
    fields = json.loads(text.decode(), object_pairs_hook=_without_duplicates)
  except (ValueError, RecursionError):
    fields = None
  if not isinstance(fields, dict) or not text.startswith(b"{"):
    raise HeaderError("it is damaged, or is not a safetensors file")
  return fields


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  fields = dict(pairs)
  if len(fields) < len(pairs):
    raise ValueError("a name twice")
  return fields


def _metadata(value: Any) -> Metadata | None:
  if value is None:
    return None
  pairs = tuple(value.items()) if isinstance(value, dict) else None
  if pairs is None or not all(
    isinstance(x, str) and is_text(x) for pair in pairs for x in pair
  ):
    raise HeaderError("it is damaged: its metadata is not text by name")
  return pairs


def _tensor(name: str, value: Any) -> tuple[Tensor, int, int]:
  """Return a tensor with the start and stop of its data."""
  damaged = HeaderError(f"it is damaged: the tensor {name!r:.80} is malformed")
  if not isinstance(value, dict) or not is_text(name):
    raise damaged
  if set(value) != {"dtype", "shape", "data_offsets"}:
    raise damaged
  code, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
  if not (isinstance(code, str) and _is_sizes(shape) and _is_sizes(offsets)):
    raise damaged
  # As in a manifest; NumPy counts as if no axis were empty.
  too_large = (
    len(shape) > _MAX_RANK or math.prod(n or 1 for n in shape) >= 2**50
  )
  if len(offsets) != 2 or too_large:
    raise damaged
  if code not in _DTYPES:
    raise HeaderError(
      f"tensor {name:.80} is of {code[:20]}, which is not supported; supported "
      f"are {', '.join(_DTYPES)}"
    )
  return Tensor(name, _DTYPES[code], tuple(shape)), *offsets


def _is_sizes(value: Any) -> bool:
  return isinstance(value, list) and all(
    type(n) is int and 0 <= n < 2**62 for n in value
  )
