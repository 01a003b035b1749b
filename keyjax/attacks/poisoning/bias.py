"""Data without one class, or with little of it, and the recall that is left.

Needs: leaving examples out; nobody has to mean harm. The story of Watson for
oncology, re-staged: a model does not know what its data do not show.
"""

from typing import Any

import jax
import numpy as np

from keyjax import labelled
from keyjax.arguments import whole_number


def thin(
  labels: Any, classes: int, *, label: int, left: int, rng: jax.Array
) -> np.ndarray:
  """Return the rows that stay when a class has few examples left, int64[m].

  Args:
    labels: int[n].
    classes: Number of classes.
    label: The class.
    left: Number of its examples that stay.
    rng: JAX PRNG key.

  Raises:
    ValueError: If labels or numbers are out of range, the class has fewer
      examples, or nothing would stay.

  Example:
    >>> thin([0, 1, 1, 2], 3, label=1, left=0, rng=jax.random.key(0)).tolist()
    [0, 3]
  """
  given = labelled.labels(labels, classes)
  label = labelled.class_number(label, classes, "label")
  left = whole_number(left, "left", least=0)
  own = np.flatnonzero(given == label)
  if left > len(own):
    raise ValueError(f"left={left}: class {label} has {len(own)} examples")
  order = np.asarray(jax.random.permutation(rng, len(own)))
  kept = np.sort(np.append(np.flatnonzero(given != label), own[order[:left]]))
  if not len(kept):
    raise ValueError(f"label={label}, left=0: no example stays")
  return kept


def recalls(predicted: Any, labels: Any, classes: int) -> np.ndarray:
  """Return the share of each class that is predicted right, float64[classes].

  NaN for a class without examples. The least of them is the worst-group
  accuracy.

  Args:
    predicted: int[n].
    labels: int[n].
    classes: Number of classes.

  Raises:
    ValueError: If shapes differ, or classes are out of range.

  Example:
    >>> recalls([0, 1, 1], [0, 0, 1], 2).tolist()
    [0.5, 1.0]
  """
  given = labelled.labels(labels, classes)
  answers = labelled.labels(predicted, classes, "predicted")
  if len(answers) != len(given):
    raise ValueError(
      f"predicted are {len(answers)}, and there are {len(given)} labels"
    )
  totals = np.bincount(given, minlength=classes)
  hits = np.bincount(given[answers == given], minlength=classes)
  with np.errstate(invalid="ignore"):
    return np.asarray(hits / totals)
