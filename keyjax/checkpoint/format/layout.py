"""Where each part of each leaf lies among the sealed bytes.

A leaf is cut into *parts*: its shards, and these along their first axis when
they are large. A part is one sealed message. The messages of a process follow
each other in its *stream*; streams are filled up to one padded length and cut
into equal *segments*, which are what is stored. So what is stored tells the
padded sum of all sizes and the number of processes, and nothing of the leaves.

Everything here follows from shapes and shardings alone: all processes of a run
come to the same layout without a word to each other.

References:
  K. Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and
  Communication with PURBs", PoPETs 2019 (Padme, the rule of padding).
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from keyjax.seal import SealError, size_of_plain, size_of_sealed

PART = 1 << 24  # The most plaintext of a part, unless one row is larger.
SEGMENT = 1 << 25
READ = 1 << 21  # What storage reads at once; one leaf of many costs little.
_MIN_READ = 1 << 12
_SMALL = 1 << 23  # Up to here storage reads a segment whole.
_MAX_SEGMENTS = 256
_EMPTY = size_of_sealed(0)

Index = tuple[int, ...]


class Part(NamedTuple):
  """A box of a leaf: one sealed message.

  Attributes:
    start: its first element, an index an axis.
    stop: one after its last.
    stream: the process that writes it.
    offset: where its message begins in that process's stream.
    size: how many bytes the message has.
  """

  start: Index
  stop: Index
  stream: int
  offset: int
  size: int

  @property
  def shape(self) -> Index:
    """How many elements along each axis."""
    return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))


class Box(NamedTuple):
  """A part before it has a place: who could write it, and who does."""

  start: Index
  stop: Index
  owners: tuple[int, ...]


class Streams(NamedTuple):
  """How the sealed bytes are stored.

  Attributes:
    rows: how many streams, one a process.
    segments: how many arrays each is cut into.
    segment: how many bytes an array holds of each stream.
    read: how many bytes storage reads at once; it divides `segment`.
  """

  rows: int
  segments: int
  segment: int
  read: int

  @property
  def size(self) -> int:
    """How many bytes a stream has."""
    return self.segments * self.segment


def boxes(leaf: Any, processes: int) -> list[Box]:
  """Returns the distinct shards of a leaf and the processes that hold each.

  Args:
    leaf: an array; one that lies on the host, or on this process's devices
      alone, is the same in all processes.
    processes: how many there are.
  """
  shape = tuple(np.shape(leaf))
  shared = isinstance(leaf, jax.Array) and (
    processes == 1 or not leaf.is_fully_addressable
  )
  if not shared:
    return [Box((0,) * len(shape), shape, tuple(range(processes)))]
  owners: dict[tuple[Index, Index], set[int]] = {}
  for device, index in leaf.sharding.devices_indices_map(shape).items():
    key = bounds(index, shape)
    owners.setdefault(key, set()).add(device.process_index)
  return [Box(*key, tuple(sorted(who))) for key, who in sorted(owners.items())]


def bounds(index: Sequence[slice], shape: Index) -> tuple[Index, Index]:
  """Returns the first element of slices, and one after the last."""
  ends = [s.indices(n) for s, n in zip(index, shape, strict=True)]
  return tuple(e[0] for e in ends), tuple(e[1] for e in ends)


def cut(box: Box, itemsize: int) -> Iterator[Box]:
  """Cuts a box along its first axis that can be cut, into `PART` bytes each."""
  shape = [b - a for a, b in zip(box.start, box.stop, strict=True)]
  axis = next((i for i, n in enumerate(shape) if n > 1), None)
  if axis is None or math.prod(shape) * itemsize <= PART:
    yield box
    return
  rows = max(1, PART // max(1, math.prod(shape[axis + 1 :]) * itemsize))
  for first in range(box.start[axis], box.stop[axis], rows):
    last = min(first + rows, box.stop[axis])
    start = (*box.start[:axis], first, *box.start[axis + 1 :])
    yield Box(
      start, (*box.stop[:axis], last, *box.stop[axis + 1 :]), box.owners
    )


def assign(
  leaves: Sequence[tuple[Any, int]], processes: int
) -> list[list[tuple[Index, Index, int]]]:
  """Says which process writes which part: the least loaded that holds it.

  Args:
    leaves: each leaf and the bytes of one of its elements.
    processes: how many there are.

  Returns:
    For each leaf its parts: start, stop, process.
  """
  load, out = [0] * processes, []
  for leaf, itemsize in leaves:
    parts = []
    for whole in boxes(leaf, processes):
      for box in cut(whole, itemsize):
        who = min(box.owners, key=lambda p: (load[p], p))
        load[who] += sealed_size(box.start, box.stop, itemsize)
        parts.append((box.start, box.stop, who))
    out.append(parts)
  return out


def sealed_size(start: Index, stop: Index, itemsize: int) -> int:
  """Returns the size of the message that holds a box."""
  shape = (b - a for a, b in zip(start, stop, strict=True))
  return size_of_sealed(math.prod(shape) * itemsize)


def place(
  leaves: Sequence[Sequence[tuple[Index, Index, int]]],
  itemsizes: Sequence[int],
  processes: int,
) -> tuple[list[list[Part]], list[int]]:
  """Lays the messages of each stream one behind the other.

  Args:
    leaves: the parts of each leaf: start, stop, process.
    itemsizes: the bytes of an element of each leaf.
    processes: how many streams there are.

  Returns:
    The parts of each leaf, and how many bytes each stream has.
  """
  used, out = [0] * processes, []
  for parts, itemsize in zip(leaves, itemsizes, strict=True):
    placed = []
    for start, stop, who in parts:
      size = sealed_size(start, stop, itemsize)
      placed.append(Part(start, stop, who, used[who], size))
      used[who] += size
    out.append(placed)
  return out, used


def padme(size: int) -> int:
  """Returns a size that tells little of what it was: at most 12 % more.

  Example:
    >>> padme(1000), padme(1_000_000)
    (1024, 1015808)
  """
  bits = max(size.bit_length() - 1, 1)
  step = 1 << max(bits - bits.bit_length(), 0)
  return -(-size // step) * step


def streams(used: Sequence[int]) -> Streams:
  """Chooses one padded length for all streams, and its segments."""
  # Room for messages of padding: every rest of so many bytes can be filled.
  size = padme(max(used) + 2 * _EMPTY)
  if size <= _SMALL:
    size = -(-size // _MIN_READ) * _MIN_READ
    return Streams(len(used), 1, size, size)
  read = READ if size > READ << 6 else READ >> 1
  count = -(-size // max(SEGMENT, size // _MAX_SEGMENTS))
  return Streams(len(used), count, -(-size // (count * read)) * read, read)


def padding(used: int, size: int) -> Iterator[tuple[int, int]]:
  """Returns the messages of zeros that fill a stream up: offset and size."""
  rest = size - used
  try:
    size_of_plain(rest)
  except SealError:  # No message has that size; two of them have.
    yield used, _EMPTY
    used, rest = used + _EMPTY, rest - _EMPTY
  yield used, rest
