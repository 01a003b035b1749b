"""Matrix products of packed vectors: products by slot, and rotations.

A vector of period p fills all slots: slot s holds x[s mod p]. Its product with
a kernel has the period of the outputs, so that every slot of a result is an
output or 0, and none holds a part of a sum. A bias that is added must have that
period too: added to the first slots only, it is missing in all that later
rotations bring in.

    y = sum over d of rotate(x, d) * diagonals[d], then fold by rotations

A client that repeats each input for every unit of the first layer, where there
are slots for it, spares the server the first of these rotations.

References:
  Chiraag Juvekar, Vinod Vaikuntanathan and Anantha Chandrakasan, "GAZELLE: A
  low latency framework for secure neural network inference", USENIX Security
  2018: the hybrid of diagonals and sums.
  Alon Brutzkus, Oren Elisha and Ran Gilad-Bachrach, "Low latency privacy
  preserving inference", ICML 2019: repeated inputs.
"""

import numpy as np


def period(size: int) -> int:
  """Return the power of two that holds a vector.

  Example:
    >>> period(10), period(16), period(1)
    (16, 16, 1)
  """
  return 1 << (size - 1).bit_length()


def tiled(vector: np.ndarray, slots: int) -> np.ndarray:
  """Return a vector, padded with zeros to its period, in every slot.

  Example:
    >>> tiled(np.asarray([1.0, 2.0, 3.0]), 8).tolist()
    [1.0, 2.0, 3.0, 0.0, 1.0, 2.0, 3.0, 0.0]
  """
  size = period(len(vector))
  padded = np.pad(vector, (0, size - len(vector)))
  return np.tile(padded, slots // size)


def repeated(vector: np.ndarray, times: int) -> np.ndarray:
  """Return a padded vector with each number several times in a row.

  Example:
    >>> repeated(np.asarray([1.0, 2.0, 3.0]), 2).tolist()
    [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 0.0, 0.0]
  """
  padded = np.pad(vector, (0, period(len(vector)) - len(vector)))
  return np.repeat(padded, times)


def diagonals(kernel: np.ndarray, repeats: int = 1) -> np.ndarray:
  """Return what rotated inputs are multiplied by, float64[rotations, period].

  Row d holds kernel[(s + d) mod p, s mod q] at slot s, for p inputs and q
  outputs, padded. There are min(p, q) rows.

  Args:
    kernel: float64[inputs, outputs].
    repeats: How many times each input is there in a row: 1, or q. With q there
      is one row, the kernel: no input has to be rotated.
  """
  padded = _padded(kernel)
  inputs, outputs = padded.shape
  if repeats > 1:
    return padded.reshape(1, -1)
  slot = np.arange(max(inputs, outputs))
  turn = np.arange(min(inputs, outputs))[:, None]
  return padded[(slot + turn) % inputs, slot % outputs]


def folds(kernel: np.ndarray, repeats: int = 1) -> tuple[int, ...]:
  """Return the rotations that add up the parts of a sum, largest first.

  Example:
    >>> folds(np.ones((64, 10))), folds(np.ones((4, 2)), repeats=2)
    ((32, 16), (4, 2))
  """
  inputs, outputs = _padded(kernel).shape
  size, found = inputs * repeats, []
  while size > outputs:
    size //= 2
    found.append(size)
  return tuple(found)


def _padded(kernel: np.ndarray) -> np.ndarray:
  """Return a kernel with zeros up to powers of two."""
  more = [(0, period(n) - n) for n in kernel.shape]
  return np.pad(kernel, more)


def rotations(width: int) -> tuple[int, ...]:
  """Return the rotations that networks of a width need keys for.

  All powers of two below it: they tell no more than the width.

  Example:
    >>> rotations(64)
    (1, 2, 4, 8, 16, 32)
  """
  return tuple(1 << i for i in range(period(width).bit_length() - 1))
