"""Spectral signatures: poisons stand out along one direction of a class.

Guarantees:
  None. If poisons are a large enough part of a class and far enough from it on
  average, most of them are among the largest scores.

Known breaks:
  A few poisons, or faint ones, do not dominate the first direction. Each class
  loses examples, whether it was poisoned or not: the scores do not say that
  there is poison.

Reference:
  Brandon Tran, Jerry Li and Aleksander Madry, "Spectral signatures in backdoor
  attacks", NeurIPS 2018, algorithm 1.
"""

from typing import Any

import numpy as np

from keyjax.arguments import whole_number
from keyjax.attacks.privacy import signals
from keyjax.defenses.trojans.checks import check_activations
from keyjax.defenses.trojans.threads import one_thread


def spectral_scores(activations: Any, labels: Any) -> np.ndarray:
  """Return how far examples are along the first direction of their class.

  Class by class: the square of (h - mean) . v, where v is the first right
  singular vector of the centred activations.

  Args:
    activations: float[n, d], of the layer before the logits.
    labels: int[n], the labels of the training data; each class that occurs has
      at least 2 examples.

  Returns:
    float64[n], greater for an outlier.

  Raises:
    ValueError: If a shape or value is wrong, or a class has one example.

  Example:
    >>> h = np.asarray([[0.0, 0.0], [0.1, 0.0], [0.0, 0.1], [5.0, 0.0]])
    >>> int(spectral_scores(h, np.zeros(4, int)).argmax())
    3
  """
  x, y = check_activations(activations, labels, least=2)
  scores = np.zeros(len(x))
  for label in np.unique(y):
    rows = y == label
    centred = x[rows] - x[rows].mean(0)
    with one_thread():
      first = np.linalg.svd(centred, full_matrices=False)[2][0]
    scores[rows] = np.square(centred @ first)
  return scores


def largest(scores: Any, labels: Any, poisons: int) -> np.ndarray:
  """Return the examples to remove: of each class, those of the largest scores.

  Args:
    scores: float[n], from `spectral_scores`.
    labels: int[n].
    poisons: Number of poisons that a class may have, the defender's guess; 1.5
      times as many are removed, and never a whole class.

  Returns:
    bool[n].

  Raises:
    ValueError: If a shape or number is wrong.

  Example:
    >>> largest(np.asarray([0.0, 3.0, 1.0]), np.zeros(3, int), 1).tolist()
    [False, True, False]
  """
  found = signals.check_values(scores, "scores", (1,))
  y = signals.check_labels(labels, (len(found), np.iinfo(np.int32).max))
  count = int(1.5 * whole_number(poisons, "poisons"))
  removed = np.zeros(len(found), bool)
  for label in np.unique(y):
    rows = np.flatnonzero(y == label)
    order = rows[np.argsort(-found[rows], kind="stable")]
    removed[order[: min(count, len(rows) - 1)]] = True
  return removed
