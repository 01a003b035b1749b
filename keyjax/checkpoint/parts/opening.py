"""Sealed parts in, boxes of leaves out, on the host or on the device."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import seal
from keyjax.checkpoint.errors import CheckpointContentError, CheckpointError
from keyjax.checkpoint.format.layout import Index, Part
from keyjax.checkpoint.format.manifest import (
  DTYPES,
  Leaf,
  Manifest,
  part_context,
)
from keyjax.checkpoint.parts import reading
from keyjax.checkpoint.parts.reading import Need
from keyjax.checkpoint.parts.sealing import slices
from keyjax.checkpoint.storage.store import Store
from keyjax.keyring.data_keys import leaf_key
from keyjax.seal import CHUNK_BYTES, SALT_BYTES, Opener, SealError

_ALIGNMENT = 64  # What JAX takes over from NumPy without a copy.


class Wanted(NamedTuple):
  """Boxes of a leaf.

  Attributes:
    leaf: its number.
    boxes: start and stop of each.
    devices: where each box goes to be opened there; None for the host.
  """

  leaf: int
  boxes: Sequence[tuple[Index, Index]]
  devices: Sequence[jax.Device] | None


def open_boxes(
  store: Store,
  manifest: Manifest,
  data_key: bytes,
  wanted: Sequence[Wanted],
  signed: bool,
) -> Iterator[tuple[int, list[Any]]]:
  """Reads and opens boxes of leaves, one leaf after the other.

  Args:
    store: the checkpoint.
    manifest: what it holds.
    data_key: its key.
    wanted: what is wanted of which leaves.
    signed: whether each message is checked against the manifest's digest.

  Yields:
    The leaf's number and its boxes: NumPy arrays, or arrays on their devices.

  Raises:
    CheckpointError: a part is damaged, or was changed, moved or swapped.
  """
  first = np.cumsum([0, *(len(x.parts) for x in manifest.leaves)]).tolist()
  needs: list[list[Need]] = []
  for want in wanted:
    leaf, whole = manifest.leaves[want.leaf], signed or bool(want.devices)
    found = (
      reading.need(
        first[want.leaf] + i, want.leaf, p, leaf.itemsize, want.boxes, whole
      )
      for i, p in enumerate(leaf.parts)
    )
    # One stream after the other: then what is needed lies together.
    needs.append(
      sorted(
        (n for n in found if n is not None),
        key=lambda n: (n.part.stream, n.part.offset),
      )
    )
  flat = [n for group in needs for n in group]
  messages = reading.read(store, manifest.streams, flat)
  for want, group in zip(wanted, needs, strict=True):
    leaf = manifest.leaves[want.leaf]
    key = leaf_key(data_key, "leaf", leaf.path)
    opened = (_OnDevice if want.devices else _OnHost)(leaf, want)
    for one in group:
      _, header, chunks = next(messages)
      if signed:
        check_digest(manifest, leaf, one, header, chunks)
      bound = part_context(manifest, leaf, one.part)
      try:
        opened.add(key, bound, one, header, chunks)
      except SealError:
        raise damaged(leaf, one.part) from None
    yield want.leaf, opened.done()


def damaged(leaf: Leaf, part: Part) -> CheckpointError:
  """Returns the error of a part that does not open."""
  where = f" at {list(part.start)}" if len(leaf.parts) > 1 else ""
  return CheckpointContentError(
    f"leaf {leaf.path}{where} does not open: it is damaged, or is not the one "
    "that was saved here"
  )


def check_digest(
  manifest: Manifest,
  leaf: Leaf,
  one: Need,
  header: memoryview,
  chunks: memoryview,
) -> None:
  """Raises a CheckpointError unless a message is the one that was signed."""
  digest = hashlib.sha256(header)
  digest.update(chunks)
  if (
    manifest.digests is None
    or digest.hexdigest() != manifest.digests[one.number]
  ):
    raise damaged(leaf, one.part)


class _OnHost:
  """Boxes of a leaf in host memory."""

  def __init__(self, leaf: Leaf, want: Wanted):
    self._dtype, self._boxes = DTYPES[leaf.dtype], want.boxes
    self._out = [
      empty(tuple(np.subtract(stop, start).tolist()), self._dtype)
      for start, stop in want.boxes
    ]

  def add(
    self,
    key: bytes,
    bound: bytes,
    one: Need,
    header: memoryview,
    chunks: memoryview,
  ) -> None:
    """Opens what is needed of a part, into its place."""
    opener = Opener(key, header, bound)
    if (place := self._place(one)) is not None:
      opener.open_into(0, chunks, place.reshape(-1).view(np.uint8).data)
      return
    tags = 16 * (one.stop - one.first)
    plain = np.empty(len(chunks) - tags, np.uint8)
    opener.open_into(one.first, chunks, plain.data)
    size = reading.row_bytes(one.part.shape, self._dtype.itemsize)
    begin = one.rows[0] * size - one.first * CHUNK_BYTES
    rows = plain[begin : begin + (one.rows[1] - one.rows[0]) * size]
    self._copy(one, rows.view(self._dtype))

  def _place(self, one: Need) -> np.ndarray | None:
    """Returns where a whole part belongs if it is one piece of memory."""
    if len(self._boxes) != 1:
      return None
    (start, stop), (out,) = self._boxes[0], self._out
    if reading.overlap(one.part, start, stop) != one.part[:2]:
      return None
    # With an ellipsis a scalar's place is an array too.
    where: Any = (*_moved(one.part.start, one.part.stop, start), ...)
    place = out[where]
    return place if place.flags.c_contiguous else None

  def _copy(self, one: Need, values: np.ndarray) -> None:
    """Copies rows of a part to where boxes want them."""
    part, start, stop = one.part, list(one.part.start), list(one.part.stop)
    if part.shape:
      axis = reading.row_axis(part.shape)
      start[axis] += one.rows[0]
      stop[axis] = part.start[axis] + one.rows[1]
    rows = part._replace(start=tuple(start), stop=tuple(stop))
    values = values.reshape(rows.shape)
    for out, box in zip(self._out, self._boxes, strict=True):
      shared = reading.overlap(rows, *box)
      if shared is not None:
        out[_moved(*shared, box[0])] = values[_moved(*shared, rows.start)]

  def done(self) -> list[np.ndarray]:
    """Returns the boxes."""
    return self._out


def _moved(start: Index, stop: Index, origin: Index) -> tuple[slice, ...]:
  first = tuple(a - o for a, o in zip(start, origin, strict=True))
  return slices(first, tuple(b - o for b, o in zip(stop, origin, strict=True)))


def empty(shape: Index, dtype: np.dtype) -> np.ndarray:
  """Returns zeros that JAX takes over without a copy."""
  size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
  memory = np.zeros(size + _ALIGNMENT, np.uint8)
  first = -memory.ctypes.data % _ALIGNMENT
  return memory[first : first + size].view(dtype).reshape(shape)


class _OnDevice:
  """Boxes of a leaf on devices; plaintext is nowhere else."""

  def __init__(self, leaf: Leaf, want: Wanted):
    self._leaf, self._want = leaf, want
    self._out: list[Any] = [None] * len(want.boxes)
    self._valid: list[tuple[Part, jax.Array]] = []

  def add(
    self,
    key: bytes,
    bound: bytes,
    one: Need,
    header: memoryview,
    chunks: memoryview,
  ) -> None:
    """Opens a part on the devices of the boxes that want some of it."""
    Opener(key, header, bound)
    seal_key = seal.seal_key(key, bound, salt=bytes(header[:SALT_BYTES]))
    message = np.concatenate([np.asarray(header), np.asarray(chunks)])
    for i, (box, device) in enumerate(
      zip(self._want.boxes, self._want.devices or (), strict=True)
    ):
      shared = reading.overlap(one.part, *box)
      if shared is None:
        continue
      on_it = jax.device_put((seal_key, message), device)
      plain, valid = seal.unseal_array(*on_it, impl="device")
      self._valid.append((one.part, valid))
      part = _values(plain, self._leaf.dtype, one.part.shape)
      piece = part[_moved(*shared, one.part.start)]
      shape = tuple(b - a for a, b in zip(*box, strict=True))
      if piece.shape == shape:
        self._out[i] = piece
        continue
      if self._out[i] is None:
        zeros = jnp.zeros(shape, piece.dtype, device=device)
        self._out[i] = zeros
      at = tuple(s.start for s in _moved(*shared, box[0]))
      self._out[i] = _update(self._out[i], piece, at)

  def done(self) -> list[Any]:
    """Returns the boxes, once all of their parts are known to be authentic."""
    for part, valid in self._valid:
      if not bool(valid):
        raise damaged(self._leaf, part)
    return self._out


def _values(plain: jax.Array, dtype: str, shape: Index) -> jax.Array:
  size = DTYPES[dtype].itemsize
  if dtype == "bool":
    return (plain != 0).reshape(shape)
  grouped = plain.reshape(*shape, size) if size > 1 else plain.reshape(shape)
  return jax.lax.bitcast_convert_type(grouped, DTYPES[dtype])


def _update(whole: jax.Array, piece: jax.Array, at: Index) -> jax.Array:
  return jax.lax.dynamic_update_slice(whole, piece, at)
