"""Checks of labelled examples: shapes, ranges, and numbers that are finite."""

import numbers
from typing import Any

import numpy as np

from keyjax.arguments import describe, show


def labels(value: Any, classes: int, name: str = "labels") -> np.ndarray:
  """Return labels as int32[n].

  Args:
    value: int[n], at least one.
    classes: Number of classes.
    name: Name of the argument, for the error.

  Raises:
    ValueError: If they are no integers of one axis, none, or out of range.

  Example:
    >>> labels([2, 0], classes=3).dtype
    dtype('int32')
  """
  found = np.asarray(value)
  is_whole = np.issubdtype(found.dtype, np.integer)
  if found.ndim != 1 or not is_whole or not len(found):
    raise ValueError(f"{name} are {describe(found)}: pass integers, [n], n > 0")
  if found.min() < 0 or found.max() >= classes:
    raise ValueError(
      f"{name} range from {found.min()} to {found.max()}: there are the "
      f"classes 0 to {classes - 1}"
    )
  return found.astype(np.int32)


def inputs(
  value: Any, n: int | None = None, name: str = "inputs"
) -> np.ndarray:
  """Return inputs as float32[n, ...].

  Args:
    value: float[n, ...], at least one.
    n: Their number, if it is known.
    name: Name of the argument, for the error.

  Raises:
    ValueError: If they are none, of another number, or not all finite.

  Example:
    >>> inputs([[0.5], [1.0]], 2).shape
    (2, 1)
  """
  found = np.asarray(value)
  is_real = np.issubdtype(found.dtype, np.floating) or np.issubdtype(
    found.dtype, np.integer
  )
  if found.ndim < 2 or not found.size or not is_real:
    raise ValueError(
      f"{name} are {describe(found)}: pass numbers, [n, ...], n > 0"
    )
  if n is not None and len(found) != n:
    raise ValueError(f"{name} are {len(found)}, and there are {n} labels")
  found = found.astype(np.float32)
  if not np.isfinite(found).all():
    bad = int(np.argmin(np.isfinite(found.reshape(len(found), -1)).all(1)))
    raise ValueError(f"{name}[{bad}] is not finite: NaN or infinity")
  return found


def share(value: Any, name: str = "share") -> float:
  """Return a share as a float from 0 to 1.

  Raises:
    ValueError: If it is none.
  """
  found = float(value) if isinstance(value, numbers.Real) else -1.0
  if not 0 <= found <= 1:
    raise ValueError(f"{name}={show(value)}: a share from 0 to 1")
  return found


def class_number(value: Any, classes: int, name: str) -> int:
  """Return the number of a class as an int.

  Raises:
    ValueError: If there is no such class.
  """
  is_whole = isinstance(value, numbers.Integral)
  if not is_whole or not 0 <= value < classes:
    raise ValueError(
      f"{name}={show(value)}: there are the classes 0 to {classes - 1}"
    )
  return int(value)
