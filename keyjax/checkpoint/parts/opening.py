"""Opening sealed parts into boxes of leaves, on the host or on devices."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import seal
from keyjax.checkpoint.errors import CheckpointContentError
from keyjax.checkpoint.format.layout import (
  Box,
  Index,
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
from keyjax.checkpoint.parts.memory import Blocks
from keyjax.checkpoint.parts.reading import PartRead, ReadPart
from keyjax.keyring.data_keys import leaf_key
from keyjax.seal import CHUNK_BYTES, SALT_BYTES, TAG_BYTES, Opener, SealError


class LeafRequest(NamedTuple):
  """Requested boxes of a leaf.

  Attributes:
    leaf: Number of the leaf.
    boxes: Start and stop of each box.
    devices: Device on which each box is opened; None for the host.
  """

  leaf: int
  boxes: Sequence[Box]
  devices: Sequence[jax.Device] | None


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
    boxes = (
      _DeviceBoxes(leaf, request)
      if request.devices
      else _HostBoxes(leaf, request, blocks)
    )
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


def damaged(leaf: Leaf, part: Part) -> CheckpointContentError:
  """Return the error of a part that does not open."""
  where = f" at {list(part.start)}" if len(leaf.parts) > 1 else ""
  return CheckpointContentError(
    f"leaf {leaf.path}{where} does not open: it is damaged, or is not the one "
    "that was saved here"
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

  def __init__(self, leaf: Leaf, request: LeafRequest, blocks: Blocks):
    self._dtype = DTYPES[leaf.dtype]
    self._boxes = request.boxes
    self._arrays = [
      blocks.zeros(box_shape(start, stop), self._dtype)
      for start, stop in request.boxes
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


class _DeviceBoxes:
  """Boxes of a leaf on devices; the plaintext is nowhere else."""

  def __init__(self, leaf: Leaf, request: LeafRequest):
    self._leaf = leaf
    self._request = request
    self._arrays: list[Any] = [None] * len(request.boxes)
    self._valid: list[tuple[Part, jax.Array]] = []

  def add(self, key: bytes, context: bytes, found: ReadPart) -> None:
    """Open a part on the devices of the boxes that overlap it."""
    part = found.read.part
    Opener(key, found.header, context)  # Checks the commitment to the key.
    salt = bytes(found.header[:SALT_BYTES])
    message_key = seal.seal_key(key, context, salt=salt)
    message = np.concatenate(
      [np.asarray(found.header), np.asarray(found.chunks)]
    )
    for i, (box, device) in enumerate(
      zip(self._request.boxes, self._request.devices or (), strict=True)
    ):
      shared = reading.overlap(part, *box)
      if shared is None:
        continue
      on_device = jax.device_put((message_key, message), device)
      plain, valid = seal.unseal_array(*on_device, impl="device")
      self._valid.append((part, valid))
      values = _from_bytes(plain, self._leaf.dtype, part.shape)
      piece = values[relative_slices(*shared, part.start)]
      shape = box_shape(*box)
      if piece.shape == shape:
        self._arrays[i] = piece
        continue
      if self._arrays[i] is None:
        self._arrays[i] = jnp.zeros(shape, piece.dtype, device=device)
      at = tuple(s.start for s in relative_slices(*shared, box[0]))
      self._arrays[i] = jax.lax.dynamic_update_slice(self._arrays[i], piece, at)

  def finish(self) -> list[Any]:
    """Return the boxes, once all of their parts are known to be authentic."""
    for part, valid in self._valid:
      if not bool(valid):
        raise damaged(self._leaf, part)
    return self._arrays


def _from_bytes(plain: jax.Array, dtype: str, shape: Index) -> jax.Array:
  """Return the values of bytes: uint8[n] -> dtype[shape]."""
  size = DTYPES[dtype].itemsize
  if dtype == "bool":
    return (plain != 0).reshape(shape)
  # uint8[n] -> uint8[*shape, itemsize] -> dtype[shape]
  grouped = plain.reshape(*shape, size) if size > 1 else plain.reshape(shape)
  return jax.lax.bitcast_convert_type(grouped, DTYPES[dtype])
