"""What a service says of a prediction: less than all probabilities.

Each function maps an API's answers, logits, to what is left of them, as logits
again: an attacker reads them as before. They hide what was meant to be hidden,
not what membership attacks read (docs/attacks/membership.md has figures).

Source: Reza Shokri, Marco Stronati, Congzheng Song and Vitaly Shmatikov,
"Membership inference attacks against machine learning models", IEEE S&P 2017,
section VIII.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from keyjax.arguments import whole_number
from keyjax.attacks.privacy import signals

Answer = Callable[[Any], np.ndarray]
_LEAST = 1e-45  # Probability that stands for 0 in a logarithm.


def temperature(logits: Any, t: float) -> np.ndarray:
  """Return logits divided by a temperature, which makes answers less sure.

  Args:
    logits: float[..., n, c].
    t: Temperature, above 0.

  Raises:
    ValueError: If the temperature is not.

  Example:
    >>> temperature(np.array([[4.0, 0.0]]), 2.0).tolist()
    [[2.0, 0.0]]
  """
  return np.asarray(logits, np.float64) / signals.check_above(
    t, "temperature", 0
  )


def top(logits: Any, k: int) -> np.ndarray:
  """Return the k greatest probabilities; the rest share what is left.

  Args:
    logits: float[..., n, c].
    k: Number of classes that are answered, fewer than there are.

  Raises:
    ValueError: If k is no such number.

  Example:
    >>> p = np.exp(top(np.log(np.array([[0.7, 0.2, 0.1]])), 1))
    >>> p.round(2).tolist()
    [[0.7, 0.15, 0.15]]
  """
  p = _probabilities(logits)
  k, classes = whole_number(k, "top"), p.shape[-1]
  if k >= classes:
    raise ValueError(f"top={k}: there are {classes} classes; fewer hide some")
  # Equal probabilities: the first classes are answered.
  order = np.argsort(-p, axis=-1, kind="stable")[..., :k]
  kept = np.take_along_axis(p, order, axis=-1)
  rest = np.maximum(1 - kept.sum(-1, keepdims=True), 0) / (classes - k)
  found = np.broadcast_to(rest, p.shape).copy()
  np.put_along_axis(found, order, kept, axis=-1)
  return _logarithm(found)


def rounded(logits: Any, digits: int) -> np.ndarray:
  """Return probabilities rounded to a number of decimal digits.

  Args:
    logits: float[..., n, c].
    digits: Number of digits.

  Raises:
    ValueError: If it is no number of them.

  Example:
    >>> p = np.exp(rounded(np.log(np.array([[0.74, 0.26]])), 1))
    >>> p.round(2).tolist()
    [[0.7, 0.3]]
  """
  digits = whole_number(digits, "digits")
  return _logarithm(np.round(_probabilities(logits), digits))


def label(logits: Any) -> np.ndarray:
  """Return probability 1 for the predicted class, and 0 for the others.

  Args:
    logits: float[..., n, c].

  Example:
    >>> np.exp(label(np.array([[1.0, 3.0]]))).round(3).tolist()
    [[0.0, 1.0]]
  """
  p = _probabilities(logits)
  found = np.eye(p.shape[-1])[p.argmax(-1)]
  return _logarithm(np.where(np.isnan(p).any(-1, keepdims=True), np.nan, found))


def _probabilities(logits: Any) -> np.ndarray:
  return np.asarray(np.exp(signals.log_probabilities(logits)))


def _logarithm(p: np.ndarray) -> np.ndarray:
  """Return logarithms, of `_LEAST` where a probability is 0."""
  return np.asarray(np.log(np.maximum(p, _LEAST)))
