"""Where the sealed parts of each leaf are stored.

A leaf is split into *parts*: its shards, and large shards along their first
axis. A part is one sealed message. The messages of a process follow each other
in its *stream*; streams are padded to one length and split into equal
*segments*, which are what is stored. So storage reveals the padded sum of all
sizes and the number of processes, and nothing about the leaves.

Everything here follows from shapes and shardings: all processes of a run
compute the same layout without communication.

References:
  K. Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and
  Communication with PURBs", PoPETs 2019 (Padme, the padding rule).
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from keyjax.seal import SealError, size_of_plain, size_of_sealed

MAX_PART_BYTES = 1 << 24  # Plaintext of a part, unless one row is larger.
SEGMENT_BYTES = 1 << 25
READ_BYTES = 1 << 21  # Unit of reading; small, so that one leaf costs little.
SMALL_STREAM_BYTES = 1 << 23  # Up to here a segment is read as a whole.
_MIN_READ_BYTES = 1 << 12
_MAX_SEGMENTS = 256
_EMPTY_MESSAGE = size_of_sealed(0)

Index = tuple[int, ...]
Box = tuple[Index, Index]  # Start and stop of a rectangular slice.
OwnedBox = tuple[Index, Index, int]  # And the process that writes it.


class Part(NamedTuple):
  """A box of a leaf: one sealed message.

  Attributes:
    start: Index of its first element.
    stop: Exclusive end along each axis.
    stream: Process that writes it.
    offset: Offset of its message in that process's stream.
    size: Size of the message in bytes.
  """

  start: Index
  stop: Index
  stream: int
  offset: int
  size: int

  @property
  def box(self) -> Box:
    """Start and stop."""
    return self.start, self.stop

  @property
  def shape(self) -> Index:
    """Number of elements along each axis."""
    return box_shape(self.start, self.stop)


class Shard(NamedTuple):
  """A box of a leaf and the processes that hold a copy of it."""

  start: Index
  stop: Index
  holders: tuple[int, ...]


class Streams(NamedTuple):
  """How bytes are stored: segments of uint8[processes * segment_size].

  Attributes:
    processes: Number of streams, one for each process that wrote.
    segments: Number of arrays that each stream is split into.
    segment_size: Bytes of each stream in one array.
    read_size: Bytes that are read at once; divides `segment_size`.
  """

  processes: int
  segments: int
  segment_size: int
  read_size: int

  @property
  def size(self) -> int:
    """Bytes of a stream."""
    return self.segments * self.segment_size


def box_shape(start: Index, stop: Index) -> Index:
  """Return the number of elements of a box along each axis."""
  return tuple(b - a for a, b in zip(start, stop, strict=True))


def box_slices(start: Index, stop: Index) -> tuple[slice, ...]:
  """Return the slices of a box."""
  return tuple(map(slice, start, stop))


def relative_slices(
  start: Index, stop: Index, origin: Index
) -> tuple[slice, ...]:
  """Return the slices of a box in an array whose first index is `origin`."""
  return box_slices(box_shape(origin, start), box_shape(origin, stop))


def slice_bounds(index: Sequence[slice], shape: Index) -> Box:
  """Return the start and stop of slices of an array."""
  ends = [s.indices(n) for s, n in zip(index, shape, strict=True)]
  return tuple(e[0] for e in ends), tuple(e[1] for e in ends)


def shards(leaf: Any, processes: int) -> list[Shard]:
  """Return the distinct shards of a leaf and the processes that hold each.

  Args:
    leaf: Array. A host array, or one on the devices of this process only, is
      taken to be the same in all processes.
    processes: Number of processes.
  """
  import jax  # Not at the top: a reader of the layout needs none of it.

  shape = tuple(np.shape(leaf))
  global_array = isinstance(leaf, jax.Array) and (
    processes == 1 or not leaf.is_fully_addressable
  )
  if not global_array:
    start = (0,) * len(shape)
    return [Shard(start, shape, tuple(range(processes)))]
  holders: dict[Box, set[int]] = {}
  for device, index in leaf.sharding.devices_indices_map(shape).items():
    box = slice_bounds(index, shape)
    holders.setdefault(box, set()).add(device.process_index)
  return [
    Shard(start, stop, tuple(sorted(found)))
    for (start, stop), found in sorted(holders.items())
  ]


def split(shard: Shard, itemsize: int) -> Iterator[Shard]:
  """Split a shard along its first axis that has more than one element.

  Each piece has at most `MAX_PART_BYTES` bytes, or one row.
  """
  shape = box_shape(shard.start, shard.stop)
  axis = next((i for i, n in enumerate(shape) if n > 1), None)
  if axis is None or math.prod(shape) * itemsize <= MAX_PART_BYTES:
    yield shard
    return
  row_bytes = math.prod(shape[axis + 1 :]) * itemsize
  rows = max(1, MAX_PART_BYTES // max(1, row_bytes))
  for first in range(shard.start[axis], shard.stop[axis], rows):
    last = min(first + rows, shard.stop[axis])
    yield Shard(
      start=(*shard.start[:axis], first, *shard.start[axis + 1 :]),
      stop=(*shard.stop[:axis], last, *shard.stop[axis + 1 :]),
      holders=shard.holders,
    )


def assign_parts(
  leaves: Sequence[tuple[Any, int]], processes: int
) -> list[list[OwnedBox]]:
  """Assign each part to the least loaded process that holds it.

  Args:
    leaves: Each leaf and the bytes of one of its elements.
    processes: Number of processes.

  Returns:
    For each leaf the start, stop and process of its parts.
  """
  load = [0] * processes
  assigned = []
  for leaf, itemsize in leaves:
    parts = []
    for shard in shards(leaf, processes):
      for piece in split(shard, itemsize):
        process = min(piece.holders, key=lambda p: (load[p], p))
        load[process] += message_size(piece.start, piece.stop, itemsize)
        parts.append((piece.start, piece.stop, process))
    assigned.append(parts)
  return assigned


def message_size(start: Index, stop: Index, itemsize: int) -> int:
  """Return the size of the message that holds a box."""
  return size_of_sealed(math.prod(box_shape(start, stop)) * itemsize)


def assign_offsets(
  leaves: Sequence[Sequence[OwnedBox]],
  itemsizes: Sequence[int],
  processes: int,
) -> tuple[list[list[Part]], list[int]]:
  """Assign to each message its offset in its stream, without gaps.

  Args:
    leaves: Start, stop and process of the parts of each leaf.
    itemsizes: Bytes of an element of each leaf.
    processes: Number of streams.

  Returns:
    The parts of each leaf, and the bytes that each stream has.
  """
  used = [0] * processes
  result = []
  for boxes, itemsize in zip(leaves, itemsizes, strict=True):
    parts = []
    for start, stop, process in boxes:
      size = message_size(start, stop, itemsize)
      parts.append(
        Part(
          start=start,
          stop=stop,
          stream=process,
          offset=used[process],
          size=size,
        )
      )
      used[process] += size
    result.append(parts)
  return result, used


def padme(size: int) -> int:
  """Return a padded size, at most 12 % larger, that reveals little.

  Example:
    >>> padme(1000), padme(1_000_000)
    (1024, 1015808)
  """
  bits = max(size.bit_length() - 1, 1)
  step = 1 << max(bits - bits.bit_length(), 0)
  return -(-size // step) * step


def choose_streams(used: Sequence[int]) -> Streams:
  """Choose one padded length for all streams, and its segments."""
  # With room for padding messages, any remaining length can be filled.
  size = padme(max(used) + 2 * _EMPTY_MESSAGE)
  if size <= SMALL_STREAM_BYTES:
    size = -(-size // _MIN_READ_BYTES) * _MIN_READ_BYTES
    return Streams(
      processes=len(used), segments=1, segment_size=size, read_size=size
    )
  read_size = READ_BYTES if size > READ_BYTES << 6 else READ_BYTES >> 1
  segments = -(-size // max(SEGMENT_BYTES, size // _MAX_SEGMENTS))
  segment_size = -(-size // (segments * read_size)) * read_size
  return Streams(
    processes=len(used),
    segments=segments,
    segment_size=segment_size,
    read_size=read_size,
  )


def padding_messages(used: int, size: int) -> Iterator[tuple[int, int]]:
  """Return offset and size of the messages of zeros that fill a stream."""
  rest = size - used
  try:
    size_of_plain(rest)
  except SealError:  # No message has that size, but two together have.
    yield used, _EMPTY_MESSAGE
    used += _EMPTY_MESSAGE
    rest -= _EMPTY_MESSAGE
  yield used, rest
