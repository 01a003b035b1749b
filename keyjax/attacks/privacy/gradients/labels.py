"""Labels, from the gradient of the last layer.

Of the mean cross-entropy of a batch, the gradient of the bias of class c is the
mean probability of c less the share of examples with that label. Of one example
it is negative for its label alone.

Sources: Zhao, Mopuri, Bilen, "iDLG: improved deep leakage from gradients",
arXiv:2001.02610, section 3.2. Counts: Ma, Sun, Cui, Li, Guo, Liu,
"Instance-wise batch label restoration via gradients in federated learning",
ICLR 2023, has exact ones; here the mean probability is a guess.
"""

from typing import Any

import numpy as np

from keyjax.arguments import whole_number
from keyjax.attacks.privacy import signals


def of_one(kernel: Any) -> int:
  """Return the label of a batch of one example (iDLG).

  Gradients of the weights of two classes have a negative inner product where
  one of the two is the label: its column has one with all others.

  Args:
    kernel: float[n, c], gradient of the last layer's kernel, of at least 3
      classes.

  Raises:
    ValueError: If it has another shape, or a value is NaN or infinite.

  Example:
    >>> probability, features = np.array([0.2, 0.5, 0.3]), np.array([1.0, 2.0])
    >>> of_one(np.outer(features, probability - np.array([0, 0, 1])))
    2
  """
  found = signals.check_values(kernel, "the gradient of the kernel", (2,))
  if found.shape[1] < 3:
    raise ValueError(
      f"the gradient of the kernel is for {found.shape[1]} classes: with fewer "
      "than 3, its signs do not tell the label"
    )
  _require_finite(found, "kernel")
  products = found.T @ found  # [c, c]
  np.fill_diagonal(products, 0)
  # With noise, a column may have none or several: strength decides.
  return int((products * (products < 0)).sum(0).argmin())


def of_batch(bias: Any, size: int, probability: Any) -> np.ndarray:
  """Return the labels of a batch in rising order, int64[size].

  Args:
    bias: float[c], gradient of the last layer's bias.
    size: Number of examples.
    probability: float[c], mean probability of each class; that of an untrained
      network hardly depends on its input, so that random images show it.

  Raises:
    ValueError: If shapes differ, or a value is NaN or infinite.

  Example:
    >>> of_batch(np.array([0.25, -0.25, 0.25, -0.25]), 2, np.full(4, 0.25))
    array([1, 3])
  """
  found = signals.check_values(bias, "the gradient of the bias", (1,))
  guess = signals.check_values(probability, "probability", (1,))
  if found.shape != guess.shape:
    raise ValueError(
      f"the gradient of the bias is of {len(found)} classes, probability of "
      f"{len(guess)}"
    )
  _require_finite(found, "bias")
  _require_finite(guess, "bias, or probability,")
  left = whole_number(size, "size") * (guess - found)
  counts = np.zeros(len(left), np.int64)
  for _ in range(size):
    best = (left - counts).argmax()
    counts[best] += 1
  return np.repeat(np.arange(len(counts)), counts)


def _require_finite(values: np.ndarray, name: str) -> None:
  if not np.isfinite(values).all():
    raise ValueError(
      f"the gradient of the {name} has values that are NaN or infinite"
    )
