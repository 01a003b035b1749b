"""Opening sealed parts into boxes of leaves, on the host or on devices."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from keyjax.checkpoint.format.layout import (
  Box,
  Part,
  box_shape,
  relative_slices,
)
from keyjax.checkpoint.format.manifest import (
  DTYPES,
  Leaf,
  Manifest,
  part_context,
)
from keyjax.checkpoint.opened import OpenedCheckpoint
from keyjax.checkpoint.parts import reading
from keyjax.checkpoint.parts.damage import damaged
from keyjax.checkpoint.parts.memory import Blocks
from keyjax.checkpoint.parts.reading import PartRead, ReadPart
from keyjax.keyring.data_keys import leaf_key
from keyjax.seal import CHUNK_BYTES, TAG_BYTES, Opener, SealError


class LeafRequest(NamedTuple):
  """Requested boxes of a leaf.

  Attributes:
    leaf: Number of the leaf.
    boxes: Start and stop of each box.
    devices: Device on which each box is opened; None for the host.
  """

  leaf: int
  boxes: Sequence[Box]
  devices: Sequence[Any] | None


def open_boxes(
  opened: OpenedCheckpoint, requests: Sequence[LeafRequest]
) -> Iterator[list[Any]]:
  """Read and open boxes of leaves, one leaf after another.

  Args:
    opened: The checkpoint. If a signature was required, each message is
      checked against the manifest's digest.
    requests: Requested leaves.

  Yields:
    The boxes of each leaf: NumPy arrays, or arrays on their devices.

  Raises:
    CheckpointContentError: If a part is damaged, altered, moved or swapped.
  """
  manifest = opened.manifest
  counts = [len(leaf.parts) for leaf in manifest.leaves]
  first_number = [0, *itertools.accumulate(counts)]
  reads_by_leaf = [
    _plan_leaf(opened, request, first_number[request.leaf])
    for request in requests
  ]
  in_order = [read for reads in reads_by_leaf for read in reads]
  blocks = Blocks()
  parts = reading.read_parts(opened.files, manifest.streams, in_order)
  for request, reads in zip(requests, reads_by_leaf, strict=True):
    leaf = manifest.leaves[request.leaf]
    key = leaf_key(opened.data_key, "leaf", leaf.path)
    boxes = _boxes(leaf, request, blocks)
    for _ in reads:
      found = next(parts)
      part = found.read.part
      if opened.check_digests:
        check_digest(manifest, leaf, found)
      context = part_context(manifest, leaf, part)
      try:
        boxes.add(key, context, found)
      except SealError:
        raise damaged(leaf, part) from None
    yield boxes.finish()


def _boxes(leaf: Leaf, request: LeafRequest, blocks: Blocks) -> Any:
  if not request.devices:
    return _HostBoxes(leaf, request.boxes, blocks)
  # Not at the top: the host needs no JAX.
  from keyjax.checkpoint.parts.opening_on_device import DeviceBoxes

  return DeviceBoxes(leaf, request.boxes, request.devices)


def _plan_leaf(
  opened: OpenedCheckpoint, request: LeafRequest, first_number: int
) -> list[PartRead]:
  """Return the reads of a leaf, ordered so that adjacent ones are joined."""
  leaf = opened.manifest.leaves[request.leaf]
  whole = opened.check_digests or bool(request.devices)
  planned = [
    reading.plan_read(
      number=first_number + i,
      leaf=request.leaf,
      part=part,
      itemsize=leaf.itemsize,
      boxes=request.boxes,
      whole=whole,
    )
    for i, part in enumerate(leaf.parts)
  ]
  return sorted(
    (read for read in planned if read is not None),
    key=lambda read: (read.part.stream, read.part.offset),
  )


def check_digest(manifest: Manifest, leaf: Leaf, found: ReadPart) -> None:
  """Check that a message is the one that was signed.

  Raises:
    CheckpointContentError: If it is not.
  """
  digest = hashlib.sha256(found.header)
  digest.update(found.chunks)
  if (
    manifest.digests is None
    or digest.hexdigest() != manifest.digests[found.read.number]
  ):
    raise damaged(leaf, found.read.part)


class _HostBoxes:
  """Boxes of a leaf in host memory."""

  def __init__(self, leaf: Leaf, boxes: Sequence[Box], blocks: Blocks):
    self._dtype = DTYPES[leaf.dtype]
    self._boxes = boxes
    self._arrays = [
      blocks.zeros(box_shape(start, stop), self._dtype) for start, stop in boxes
    ]

  def add(self, key: bytes, context: bytes, found: ReadPart) -> None:
    """Open what is needed of a part into the boxes."""
    read = found.read
    opener = Opener(key, found.header, context)
    if (target := self._whole_part_target(read.part)) is not None:
      opener.open_into(0, found.chunks, target.reshape(-1).view(np.uint8).data)
      return
    tags = TAG_BYTES * (read.stop_chunk - read.first_chunk)
    plain = np.empty(len(found.chunks) - tags, np.uint8)
    opener.open_into(read.first_chunk, found.chunks, plain.data)
    # uint8[chunks * chunk size] -> uint8[rows * row size]
    size = reading.row_bytes(read.part.shape, self._dtype.itemsize)
    first, stop = read.rows
    begin = first * size - read.first_chunk * CHUNK_BYTES
    rows = plain[begin : begin + (stop - first) * size]
    self._copy_rows(read, rows.view(self._dtype))

  def _whole_part_target(self, part: Part) -> np.ndarray | None:
    """Return a part's place in the only box, if that is contiguous."""
    if len(self._boxes) != 1:
      return None
    (start, stop) = self._boxes[0]
    if reading.overlap(part, start, stop) != part.box:
      return None
    # With an ellipsis, indexing a scalar returns an array too.
    where: Any = (*relative_slices(part.start, part.stop, start), ...)
    target = self._arrays[0][where]
    return target if target.flags.c_contiguous else None

  def _copy_rows(self, read: PartRead, values: np.ndarray) -> None:
    """Copy rows of a part into the boxes that overlap them."""
    part = read.part
    start = list(part.start)
    stop = list(part.stop)
    if part.shape:
      axis = reading.row_axis(part.shape)
      start[axis] += read.rows[0]
      stop[axis] = part.start[axis] + read.rows[1]
    rows = part._replace(start=tuple(start), stop=tuple(stop))
    values = values.reshape(rows.shape)
    for array, box in zip(self._arrays, self._boxes, strict=True):
      shared = reading.overlap(rows, *box)
      if shared is not None:
        array[relative_slices(*shared, box[0])] = values[
          relative_slices(*shared, rows.start)
        ]

  def finish(self) -> list[np.ndarray]:
    """Return the boxes."""
    return self._arrays
