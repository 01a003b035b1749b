"""Opening sealed parts on devices."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import seal
from keyjax.checkpoint.format.layout import (
  Box,
  Index,
  Part,
  box_shape,
  relative_slices,
)
from keyjax.checkpoint.format.manifest import DTYPES, Leaf
from keyjax.checkpoint.parts import reading
from keyjax.checkpoint.parts.damage import damaged
from keyjax.checkpoint.parts.reading import ReadPart
from keyjax.seal import SALT_BYTES, Opener


class DeviceBoxes:
  """Boxes of a leaf on devices; the plaintext is nowhere else."""

  def __init__(
    self, leaf: Leaf, boxes: Sequence[Box], devices: Sequence[jax.Device]
  ):
    self._leaf = leaf
    self._boxes = list(zip(boxes, devices, strict=True))
    self._arrays: list[Any] = [None] * len(boxes)
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
    for i, (box, device) in enumerate(self._boxes):
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
