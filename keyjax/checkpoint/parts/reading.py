"""Which bytes of the streams a box of a leaf needs, and reading them ahead.

The requested boxes are converted to *reads*: a part and the range of its
chunks that holds what is wanted of it. Reads that are adjacent in a stream are
joined in windows, and some windows are read ahead of the one that is being
opened, so that memory is bounded and storage and cipher work at the same time.
"""

import collections
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from keyjax.checkpoint.format.layout import Box, Index, Part, Streams
from keyjax.checkpoint.storage.sealed_files import SealedFiles
from keyjax.seal import CHUNK_BYTES, HEADER_BYTES, SEALED_CHUNK_BYTES

_WINDOW_BYTES = 1 << 24
_WINDOWS_AHEAD = 3


class PartRead(NamedTuple):
  """A part, and which of its chunks are read.

  Attributes:
    number: Number of the part among all parts of the checkpoint.
    leaf: Number of the leaf.
    part: The part.
    rows: First row and exclusive end, along the axis of `row_axis`.
    first_chunk: First chunk.
    stop_chunk: Exclusive end of the chunks.
  """

  number: int
  leaf: int
  part: Part
  rows: tuple[int, int]
  first_chunk: int
  stop_chunk: int

  @property
  def start(self) -> int:
    """Offset of the first chunk in the stream."""
    chunks = self.first_chunk * SEALED_CHUNK_BYTES
    return self.part.offset + HEADER_BYTES + chunks

  @property
  def end(self) -> int:
    """Offset of the end of the last chunk in the stream."""
    chunks = self.stop_chunk * SEALED_CHUNK_BYTES
    end = self.part.offset + HEADER_BYTES + chunks
    return min(end, self.part.offset + self.part.size)


class ReadPart(NamedTuple):
  """Sealed bytes of a part; overwritten once the next one is requested."""

  read: PartRead
  header: memoryview
  chunks: memoryview


def row_axis(shape: Index) -> int:
  """Return the first axis with more than one element; rows are along it."""
  return next((i for i, n in enumerate(shape) if n > 1), 0)


def row_bytes(shape: Index, itemsize: int) -> int:
  """Return the size of a row; of a scalar, its own."""
  return math.prod(shape[row_axis(shape) + 1 :]) * itemsize


def plan_read(
  number: int,
  leaf: int,
  part: Part,
  itemsize: int,
  boxes: Iterable[Box],
  whole: bool,
) -> PartRead | None:
  """Return what boxes need of a part; None if they do not overlap it.

  Args:
    number: Number of the part.
    leaf: Number of the leaf.
    part: The part.
    itemsize: Bytes of an element.
    boxes: Requested boxes of the leaf.
    whole: Whether to read all of the part, to check its digest.
  """
  axis = row_axis(part.shape)
  shape = part.shape
  inner = [b for b in (overlap(part, *box) for box in boxes) if b is not None]
  if not inner:
    return None
  count = shape[axis] if shape else 1
  rows = (0, count)
  if shape and not whole:
    offset = part.start[axis]
    rows = (
      min(start[axis] for start, _ in inner) - offset,
      max(stop[axis] for _, stop in inner) - offset,
    )
  size = row_bytes(shape, itemsize)
  stop_chunk = -(-rows[1] * size // CHUNK_BYTES)
  if rows[1] == count:  # With all chunks: an empty last one proves the end.
    stop_chunk = chunk_count(part.size)
  return PartRead(
    number=number,
    leaf=leaf,
    part=part,
    rows=rows,
    first_chunk=rows[0] * size // CHUNK_BYTES,
    stop_chunk=stop_chunk,
  )


def whole_part(number: int, leaf: int, part: Part) -> PartRead:
  """Return the read of all of a part."""
  rows = part.shape[row_axis(part.shape)] if part.shape else 1
  return PartRead(
    number=number,
    leaf=leaf,
    part=part,
    rows=(0, rows),
    first_chunk=0,
    stop_chunk=chunk_count(part.size),
  )


def chunk_count(size: int) -> int:
  """Return the number of chunks of a message of `size` bytes."""
  return -(-(size - HEADER_BYTES) // SEALED_CHUNK_BYTES)


def overlap(part: Part, start: Index, stop: Index) -> Box | None:
  """Return the overlap of a part and a box; an empty part overlaps any box."""
  low = tuple(map(max, part.start, start))
  high = tuple(map(min, part.stop, stop))
  empty = 0 in part.shape
  shared = all(a < b for a, b in zip(low, high, strict=True))
  return (low, high) if shared or empty else None


def read_parts(
  files: SealedFiles, streams: Streams, reads: Sequence[PartRead]
) -> Iterator[ReadPart]:
  """Read parts in the given order.

  Args:
    files: The checkpoint.
    streams: How it is stored.
    reads: Parts and their chunks.
  """
  queue: collections.deque = collections.deque()
  windows = iter(_windows(reads))
  spare: list[np.ndarray] = []
  while True:
    while len(queue) < _WINDOWS_AHEAD:
      window = next(windows, None)
      if window is None:
        break
      buffer = _buffer(spare, window[-1].end - window[0].part.offset)
      found, waits = _start_window(files, streams, window, buffer)
      queue.append((found, waits, buffer))
    if not queue:
      return
    found, waits, buffer = queue.popleft()
    for wait in waits:
      wait()
    yield from found
    spare.append(buffer)


def _windows(reads: Sequence[PartRead]) -> Iterator[list[PartRead]]:
  """Group adjacent reads."""
  window: list[PartRead] = []
  for read in reads:
    if window and not _joins(window, read):
      yield window
      window = []
    window.append(read)
  if window:
    yield window


def _joins(window: list[PartRead], read: PartRead) -> bool:
  """Return whether a read directly follows a window and still fits it."""
  last = window[-1]
  same_stream = last.part.stream == read.part.stream
  from_header = read.first_chunk == last.first_chunk == 0
  if not (same_stream and from_header):
    return False
  adjacent = 0 <= read.part.offset - last.end < CHUNK_BYTES
  return adjacent and read.end - window[0].part.offset <= _WINDOW_BYTES


def _buffer(spare: list[np.ndarray], size: int) -> np.ndarray:
  while spare:
    if (found := spare.pop()).size >= size:
      return found
  return np.empty(max(size, _WINDOW_BYTES), np.uint8)


def _start_window(
  files: SealedFiles,
  streams: Streams,
  window: list[PartRead],
  buffer: np.ndarray,
) -> tuple[list[ReadPart], list[Callable[[], None]]]:
  """Begin to read a window into a buffer, uint8[n].

  Returns:
    Where its messages will be, and functions that wait for them.
  """
  base = window[0].part.offset
  stream = window[0].part.stream
  if window[0].first_chunk == 0:
    size = window[-1].end - base
    waits = [files.start_read(streams, stream, base, buffer[:size])]
    found = []
    for read in window:
      message = buffer[read.part.offset - base : read.end - base]
      header = message[:HEADER_BYTES].data
      found.append(ReadPart(read, header, message[HEADER_BYTES:].data))
    return found, waits
  (read,) = window
  head = buffer[:HEADER_BYTES]
  body = buffer[HEADER_BYTES : HEADER_BYTES + read.end - read.start]
  waits = [
    files.start_read(streams, stream, base, head),
    files.start_read(streams, stream, read.start, body),
  ]
  return [ReadPart(read, head.data, body.data)], waits
