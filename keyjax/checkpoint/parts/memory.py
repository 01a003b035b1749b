"""Memory for restored arrays."""

import math

import numpy as np

from keyjax.checkpoint.format.layout import Index

_BLOCK_BYTES = 1 << 25
_LARGE_BYTES = 1 << 23  # An array of this size has a block of its own.
_PAGE_BYTES = 1 << 21  # Of the system's large pages.
_ALIGNMENT = 64  # JAX adopts such memory without a copy.


class Blocks:
  """Zeros for arrays, many small ones of which share a block.

  A block begins at a large page: the system provides it in a tenth of the time
  of many small pieces. It is freed with the last of its arrays.
  """

  def __init__(self) -> None:
    self._rest = np.empty(0, np.uint8)

  def zeros(self, shape: Index, dtype: np.dtype) -> np.ndarray:
    """Return zeros that JAX adopts without a copy."""
    size = math.prod(shape) * dtype.itemsize
    if size >= _LARGE_BYTES:
      memory = _new_block(size)
    else:
      if size > self._rest.size:
        self._rest = _new_block(_BLOCK_BYTES)
      memory = self._rest[:size]
      self._rest = self._rest[-(-size // _ALIGNMENT) * _ALIGNMENT :]
    # uint8[size] -> dtype[shape]
    return memory.view(dtype).reshape(shape)


def _new_block(size: int) -> np.ndarray:
  memory = np.zeros(size + _PAGE_BYTES, np.uint8)
  first = -memory.ctypes.data % _PAGE_BYTES
  return memory[first : first + size]
