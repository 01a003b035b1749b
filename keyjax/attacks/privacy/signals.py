"""What attacks read off logits, in float64, and checks of their arguments.

Logarithms of probabilities never leave the domain of logarithms: members have
probabilities that round to 1, and an attack lives on what rounding removes.
"""

import numbers
from typing import Any

import jax
import numpy as np
import scipy.special

from keyjax.arguments import describe, show


def log_probabilities(logits: Any) -> np.ndarray:
  """Return the logarithm of the softmax, float64[..., n, c].

  Rows with NaN or positive infinity are NaN. Logarithms of probabilities are
  logits too: they are returned as they are, up to rounding.

  Args:
    logits: float[..., n, c].

  Raises:
    ValueError: If logits have another shape, or are no floats.

  Example:
    >>> log_probabilities(np.array([[2000.0, 1000.0]])).tolist()
    [[0.0, -1000.0]]
  """
  z = _usable(logits)
  with np.errstate(invalid="ignore"):
    return z - scipy.special.logsumexp(z, axis=-1, keepdims=True)


def log_confidence(logits: Any, labels: Any) -> np.ndarray:
  """Return the log probability of the label, float64[..., n].

  Args:
    logits: float[..., n, c].
    labels: int[n].

  Raises:
    ValueError: If shapes differ, or a label is no class.

  Example:
    >>> log_confidence(np.zeros((1, 4)), np.array([3])).round(3).tolist()
    [-1.386]
  """
  found = log_probabilities(logits)
  return _of_label(found, check_labels(labels, found.shape[-2:]))


def log_odds(logits: Any, labels: Any) -> np.ndarray:
  """Return phi = log p_y - log of the sum of the others, float64[..., n].

  It is near a normal distribution over training runs, where log p_y is not
  (Carlini et al. 2022, section VI-A). For an API that returns probabilities,
  pass `np.log(np.maximum(p, 1e-45))`.

  Args:
    logits: float[..., n, c].
    labels: int[n].

  Raises:
    ValueError: If shapes differ, or a label is no class.

  Example:
    >>> logits = np.array([[500.0, 0.0], [0.0, 1.0]])
    >>> log_odds(logits, np.array([0, 0])).tolist()
    [500.0, -1.0]
  """
  z = _usable(logits)
  labels = check_labels(labels, z.shape[-2:])
  is_label = np.arange(z.shape[-1]) == labels[:, None]
  others = scipy.special.logsumexp(np.where(is_label, -np.inf, z), axis=-1)
  with np.errstate(invalid="ignore"):
    return np.asarray(_of_label(z, labels) - others)


def _usable(logits: Any) -> np.ndarray:
  """Return logits in float64, NaN in rows without a softmax."""
  z = as_array(logits)
  if z.ndim < 2 or z.shape[-1] < 2 or not np.issubdtype(z.dtype, np.floating):
    raise ValueError(
      f"logits are {describe(z)}: pass floats, [..., n, c], 2 or more classes"
    )
  z = z.astype(np.float64)
  bad = np.isnan(z) | (z == np.inf)
  return np.where(bad.any(-1, keepdims=True), np.nan, z)


def as_array(values: Any) -> np.ndarray:
  """Return an array; floats that NumPy does not know, as float32.

  These are bfloat16 and the floats of 8 bits, and nothing of them is lost.

  Example:
    >>> as_array(jax.numpy.ones(2, "bfloat16")).dtype
    dtype('float32')
  """
  found = np.asarray(values)
  known = np.issubdtype(found.dtype, np.floating)
  if not known and jax.dtypes.issubdtype(found.dtype, np.floating):
    return found.astype(np.float32)
  return found


def _of_label(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Return the value of each example's label: [..., n, c] to [..., n]."""
  return np.asarray(values[..., np.arange(len(labels)), labels])


def check_labels(labels: Any, shape: tuple[int | None, ...]) -> np.ndarray:
  """Return labels as int64[n].

  Args:
    labels: int[n].
    shape: Number of examples and of classes; None if there may be any number of
      classes.

  Raises:
    ValueError: If they are not integers of that number, or out of range.
  """
  found, (n, classes) = np.asarray(labels), shape
  if found.shape != (n,) or not np.issubdtype(found.dtype, np.integer):
    raise ValueError(f"labels are {describe(found)}: pass integers, [{n}]")
  most = np.inf if classes is None else classes
  if n and not (found.min() >= 0 and found.max() < most):
    known = "0 and more" if classes is None else f"0 to {classes - 1}"
    raise ValueError(
      f"labels range from {found.min()} to {found.max()}: there are the "
      f"classes {known}"
    )
  return found.astype(np.int64)


def check_members(
  members: Any, shape: tuple[int, ...], least_in: int = 0, least_out: int = 0
) -> np.ndarray:
  """Return membership as bool[k, n].

  Args:
    members: bool[k, n], whether model i was trained on example j.
    shape: Number of models and of examples.
    least_in: Models with each example that an attack needs.
    least_out: Models without it.

  Raises:
    ValueError: If it has another shape or dtype, or an example has fewer.
  """
  found = np.asarray(members)
  if found.dtype != np.bool_ or found.shape != tuple(shape):
    k, n = shape
    raise ValueError(f"members are {describe(found)}: pass bool[{k}, {n}]")
  for name, counts, least in (
    ("with", found.sum(0), least_in),
    ("without", (~found).sum(0), least_out),
  ):
    if found.size and counts.min() < least:
      raise ValueError(
        f"example {np.argmin(counts)} has {counts.min()} of {len(found)} "
        f"shadow models {name} it: each needs {least} or more; see "
        "`shadows.split`"
      )
  return found


def check_values(
  values: Any, name: str, dimensions: tuple[int, ...], finite: bool = False
) -> np.ndarray:
  """Return values in float64.

  Args:
    values: Array.
    name: Its name, for the error.
    dimensions: Numbers of axes that it may have.
    finite: Whether NaN and infinity are refused.

  Raises:
    ValueError: If it is no array of numbers, or has other axes.
  """
  found = as_array(values)
  real = np.issubdtype(found.dtype, np.number) and not np.iscomplexobj(found)
  if not real or found.ndim not in dimensions or 0 in found.shape:
    axes = " or ".join(map(str, dimensions))
    raise ValueError(f"{name} is {describe(found)}: pass numbers, {axes} axes")
  if finite and not np.isfinite(found).all():
    raise ValueError(
      f"{name} has values that are NaN or infinite: a shadow model diverged, "
      "or its probabilities are 0; leave it out"
    )
  return found.astype(np.float64)


def check_share(value: Any, name: str) -> float:
  """Return a number from 0 to 1, or raise ValueError."""
  found = _number(value)
  if not 0 <= found <= 1:
    raise ValueError(f"{name}={show(value)}: a number from 0 to 1")
  return found


def check_above(value: Any, name: str, least: float) -> float:
  """Return a finite number above `least`, or raise ValueError."""
  found = _number(value)
  if not (found > least and found < np.inf):
    raise ValueError(f"{name}={show(value)}: a finite number above {least:g}")
  return found


def check_bounds(bounds: Any) -> tuple[float, float]:
  """Return the least and the greatest value of an input; infinite for None.

  Raises:
    ValueError: If they are not two finite numbers in rising order.

  Example:
    >>> check_bounds((0, 1)), check_bounds(None)
    ((0.0, 1.0), (-inf, inf))
  """
  if bounds is None:
    return -np.inf, np.inf
  try:
    low, high = (float(x) for x in bounds)
  except (TypeError, ValueError):
    raise ValueError(
      f"bounds are {describe(bounds)}: pass the least and the greatest pixel"
    ) from None
  if not -np.inf < low < high < np.inf:
    raise ValueError(f"bounds={low:g}, {high:g}: two numbers in rising order")
  return low, high


def _number(value: Any) -> float:
  """Return a number as a float; NaN for what is none."""
  if isinstance(value, numbers.Real) and not isinstance(value, bool):
    return float(value)
  return float("nan")
