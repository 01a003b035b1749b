"""Checks of what is given to a client or a server."""

import numbers
from typing import Any

import numpy as np

from keyjax.arguments import describe, show, whole_number
from keyjax.errors import ArgumentError


def whole(value: Any, name: str, least: int = 1) -> int:
  """Return a number as an int.

  Raises:
    ArgumentError: If it is not a whole number, or is too small.
  """
  try:
    return whole_number(value, name, least)
  except ValueError as error:
    raise ArgumentError(str(error)) from None


def reals(values: Any, what: str) -> np.ndarray:
  """Return real numbers as float64[...].

  Args:
    values: Array of numbers.
    what: Name of them, for the error.

  Raises:
    ArgumentError: If they are none: of complex numbers, the imaginary part
      would be lost.

  Example:
    >>> reals([1, 2], "inputs").tolist()
    [1.0, 2.0]
    >>> reals([1j], "inputs")
    Traceback (most recent call last):
    keyjax.errors.ArgumentError: inputs are complex128[1]: pass real numbers
  """
  try:
    found = np.asarray(values)
    if found.dtype.kind in "biufV":  # V: bfloat16, as NumPy has it.
      return found.astype(np.float64)
    given = describe(found)
  except (TypeError, ValueError):  # Rows of several lengths, among others.
    given = describe(values)
  raise ArgumentError(f"{what} are {given}: pass real numbers")


def finite(value: Any, name: str) -> float:
  """Return a finite number as a float.

  Raises:
    ArgumentError: If it is none.
  """
  is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
  if not is_real or not np.isfinite(float(value)):
    raise ArgumentError(f"{name}={show(value)}: a finite number")
  return float(value)


def require_bytes(data: Any, what: str, source: str) -> None:
  """Raise a TypeError unless a message is bytes.

  Args:
    data: The message.
    what: What it should be, for the error.
    source: What returns it.
  """
  if not isinstance(data, bytes):
    raise TypeError(f"{what} is {describe(data)}: pass the bytes of {source}")
