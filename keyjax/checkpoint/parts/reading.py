"""Which bytes of the streams a box of a leaf needs, and reading them ahead.

Boxes that are wanted become *needs*: a part and the run of its chunks that
holds what is wanted of it. Needs that lie behind each other are read together
in windows, some of them ahead of the one that is opened, so memory stays
bounded and storage and cipher work at the same time.
"""

import collections
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from keyjax.checkpoint.format.layout import Index, Part, Streams
from keyjax.checkpoint.storage.store import Store
from keyjax.seal import CHUNK_BYTES, HEADER_BYTES, SEALED_CHUNK_BYTES

_WINDOW = 1 << 24
_AHEAD = 3
_STEP = SEALED_CHUNK_BYTES


class Need(NamedTuple):
  """A part, and what is wanted of it.

  Attributes:
    number: the part's, among all parts of the checkpoint.
    leaf: the leaf's number.
    part: the part.
    rows: first and last row that is wanted, along the axis of `row_axis`.
    first: the first chunk that is needed.
    stop: one after the last.
  """

  number: int
  leaf: int
  part: Part
  rows: tuple[int, int]
  first: int
  stop: int

  @property
  def start(self) -> int:
    """Where the first chunk lies in the stream."""
    return self.part.offset + HEADER_BYTES + self.first * _STEP

  @property
  def end(self) -> int:
    """Where the last chunk ends in the stream."""
    end = self.part.offset + HEADER_BYTES + self.stop * _STEP
    return min(end, self.part.offset + self.part.size)


def row_axis(shape: Index) -> int:
  """Returns the first axis with more than one element; rows lie along it."""
  return next((i for i, n in enumerate(shape) if n > 1), 0)


def row_bytes(shape: Index, itemsize: int) -> int:
  """Returns the size of a row; of a scalar, its own."""
  return math.prod(shape[row_axis(shape) + 1 :]) * itemsize


def need(
  number: int,
  leaf: int,
  part: Part,
  itemsize: int,
  boxes: Iterable[tuple[Index, Index]],
  whole: bool,
) -> Need | None:
  """Returns what boxes need of a part; None if it has nothing of theirs.

  Args:
    number: the part's number.
    leaf: the leaf's number.
    part: the part.
    itemsize: bytes of an element.
    boxes: what is wanted of the leaf.
    whole: whether all of a part is read where any is, to check its digest.
  """
  axis, shape = row_axis(part.shape), part.shape
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
  chunks = chunk_count(part.size)
  # All rows means all chunks: an empty last one proves the end.
  stop = chunks if rows[1] == count else -(-rows[1] * size // CHUNK_BYTES)
  return Need(number, leaf, part, rows, rows[0] * size // CHUNK_BYTES, stop)


def whole(number: int, leaf: int, part: Part) -> Need:
  """Returns the need of all of a part."""
  rows = part.shape[row_axis(part.shape)] if part.shape else 1
  return Need(number, leaf, part, (0, rows), 0, chunk_count(part.size))


def chunk_count(size: int) -> int:
  """Returns how many chunks a message of so many bytes has."""
  return -(-(size - HEADER_BYTES) // _STEP)


def overlap(
  part: Part, start: Index, stop: Index
) -> tuple[Index, Index] | None:
  """Returns what a part and a box share; an empty part belongs to any box."""
  low = tuple(map(max, part.start, start))
  high = tuple(map(min, part.stop, stop))
  empty = 0 in part.shape
  shared = all(a < b for a, b in zip(low, high, strict=True))
  return (low, high) if shared or empty else None


def read(
  store: Store, streams: Streams, needs: Sequence[Need]
) -> Iterator[tuple[Need, memoryview, memoryview]]:
  """Reads what is needed, in its order.

  Args:
    store: where.
    streams: how it is stored.
    needs: what.

  Yields:
    Each need, the header of its message, and its chunks; they are overwritten
    once the next one is asked for.
  """
  queue: collections.deque = collections.deque()
  waiting = iter(_windows(needs))
  spare: list[np.ndarray] = []
  while True:
    while len(queue) < _AHEAD and (group := next(waiting, None)) is not None:
      buffer = _buffer(spare, group[-1].end - group[0].part.offset)
      queue.append((group, *_begin(store, streams, group, buffer), buffer))
    if not queue:
      return
    group, views, waits, buffer = queue.popleft()
    for wait in waits:
      wait()
    for one, (header, chunks) in zip(group, views, strict=True):
      yield one, header, chunks
    spare.append(buffer)


def _windows(needs: Sequence[Need]) -> Iterator[list[Need]]:
  group: list[Need] = []
  for one in needs:
    if group and not _joins(group, one):
      yield group
      group = []
    group.append(one)
  if group:
    yield group


def _joins(group: list[Need], one: Need) -> bool:
  """Tells whether a need is read with those before it, in one go."""
  last = group[-1]
  behind = last.part.stream == one.part.stream and one.first == last.first == 0
  behind = behind and 0 <= one.part.offset - last.end < CHUNK_BYTES
  return behind and one.end - group[0].part.offset <= _WINDOW


def _buffer(spare: list[np.ndarray], size: int) -> np.ndarray:
  while spare:
    if (found := spare.pop()).size >= size:
      return found
  return np.empty(max(size, _WINDOW), np.uint8)


def _begin(
  store: Store, streams: Streams, group: list[Need], buffer: np.ndarray
) -> tuple[list[tuple[memoryview, memoryview]], list[Callable[[], None]]]:
  """Begins to read a window; returns where its messages will be."""
  base, row = group[0].part.offset, group[0].part.stream
  if group[0].first == 0:
    size = group[-1].end - base
    waits = [store.fetch(streams, row, base, buffer[:size])]
    at = [(n.part.offset - base, n.end - base) for n in group]
    views = [
      (buffer[a : a + HEADER_BYTES].data, buffer[a + HEADER_BYTES : b].data)
      for a, b in at
    ]
    return views, waits
  (one,) = group
  size = one.end - one.start
  head, body = buffer[:HEADER_BYTES], buffer[HEADER_BYTES : HEADER_BYTES + size]
  waits = [
    store.fetch(streams, row, base, head),
    store.fetch(streams, row, one.start, body),
  ]
  return [(head.data, body.data)], waits
