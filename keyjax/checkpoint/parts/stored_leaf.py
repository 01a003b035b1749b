"""Leaves that are read from a file when they are sealed."""

from collections.abc import Callable
from typing import Any

import numpy as np

from keyjax.checkpoint.format.layout import Index, box_shape

ReadInto = Callable[[int, memoryview], None]


class StoredLeaf:
  """An array in a file, of which any contiguous part can be read.

  Attributes:
    shape: Shape of the array.
    dtype: Its dtype.
  """

  def __init__(self, shape: Index, dtype: np.dtype, read_into: ReadInto):
    """Describe an array; nothing is read.

    Args:
      shape: Shape of the array.
      dtype: Its dtype.
      read_into: Reads the bytes from an offset in the array into a buffer.
    """
    self.shape = shape
    self.dtype = dtype
    self._read_into = read_into

  @property
  def size(self) -> int:
    """Number of elements."""
    return int(np.prod(self.shape, dtype=np.int64))

  def read(self, start: Index, stop: Index) -> np.ndarray:
    """Return a box whose elements follow each other in memory."""
    out = np.empty(box_shape(start, stop), self.dtype)
    if out.size:
      first = int(np.ravel_multi_index(start, self.shape)) if start else 0
      # dtype[...] -> uint8[size in bytes]
      data = out.reshape(-1).view(np.uint8).data
      self._read_into(first * self.dtype.itemsize, data)
    return out

  def read_whole(self) -> np.ndarray:
    """Return the array."""
    return self.read((0,) * len(self.shape), self.shape)


def in_memory(leaf: Any) -> Any:
  """Return a leaf, read into memory if it is stored."""
  return leaf.read_whole() if isinstance(leaf, StoredLeaf) else leaf
