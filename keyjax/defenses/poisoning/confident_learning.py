"""Confident learning: labels that models of other folds contradict.

A model of one part of the data gives the probabilities of the other part. An
example is counted as of another class than its label says if its probability of
that class is at least the mean one of the examples that have that label. From
these counts follows how many labels of each pair of classes are wrong, and the
least plausible ones are flagged ("prune by noise rate").

Guarantees:
  None for models with errors. With ideal probabilities, wrong labels are found
  exactly under the conditions of the paper's theorem 1.

Known breaks:
  A model that learns the poison confirms it, as trojans do; right labels on
  changed inputs are right.

Reference:
  Curtis Northcutt, Lu Jiang and Isaac Chuang, "Confident learning: estimating
  uncertainty in dataset labels", JAIR 70, 2021, arXiv:1911.00068.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from keyjax import labelled
from keyjax.arguments import describe, whole_number

_ROUNDING = 1e-6  # A probability this little below the threshold counts.


def out_of_fold(
  labels: Any,
  classes: int,
  fit: Callable[[np.ndarray, np.ndarray], Any],
  folds: int = 5,
  seed: int = 0,
) -> np.ndarray:
  """Return each example's probabilities by a model that did not see it.

  Every fold has its share of every label.

  Args:
    labels: int[n].
    classes: Number of classes.
    fit: Function from the rows to train on, int[m], and the rows to answer,
      int[r], to probabilities, float[r, classes].
    folds: Number of parts.
    seed: Seed of the parts.

  Returns:
    float64[n, classes].

  Raises:
    ValueError: If a class has fewer examples than there are folds, or what
      `fit` returns are no probabilities.

  Example:
    >>> equal = lambda train, held: np.full((len(held), 2), 0.5)
    >>> out_of_fold([0, 1, 0, 1], 2, equal, folds=2).shape
    (4, 2)
  """
  given = labelled.labels(labels, classes)
  folds = whole_number(folds, "folds", least=2)
  _require_classes(given, classes, folds)
  order = np.random.default_rng(seed).permutation(len(given))
  order = order[np.argsort(given[order], kind="stable")]
  part = np.empty(len(given), np.int64)
  part[order] = np.arange(len(given)) % folds
  found = np.empty((len(given), classes))
  for i in range(folds):
    held = np.flatnonzero(part == i)
    answer = fit(np.flatnonzero(part != i), held)
    found[held] = _probabilities(answer, (len(held), classes))
  return found


def thresholds(labels: Any, probabilities: Any) -> np.ndarray:
  """Return the mean probability of each class where it is the label.

  Args:
    labels: int[n], each class at least once.
    probabilities: float[n, classes], out of fold.

  Returns:
    float64[classes].
  """
  given, probs = _checked(labels, probabilities)
  classes = probs.shape[1]
  return np.asarray([probs[given == c, c].mean() for c in range(classes)])


def joint(labels: Any, probabilities: Any) -> np.ndarray:
  """Return estimated counts by label and true class, float64[c, c].

  Rows are labels, and sum to their number.

  Args:
    labels: int[n], each class at least once.
    probabilities: float[n, classes], out of fold.

  Raises:
    ValueError: If shapes or ranges are wrong, or a class has no examples.

  Example:
    >>> probs = np.asarray([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.8, 0.2]])
    >>> joint([0, 0, 1, 1], probs).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
  """
  given, probs = _checked(labels, probabilities)
  least = thresholds(given, probs)
  sure = probs >= least - _ROUNDING  # [n, classes]
  guess = np.where(sure, probs, -1.0).argmax(1)
  counts = np.zeros((probs.shape[1],) * 2)
  np.add.at(counts, (given[sure.any(1)], guess[sure.any(1)]), 1)
  sums = counts.sum(1)
  # A label of which no example is sure is taken to be right.
  unsure = np.flatnonzero(sums == 0)
  counts[unsure, unsure] = 1
  own = np.bincount(given, minlength=len(counts))
  return np.asarray(counts / counts.sum(1, keepdims=True) * own[:, None])


def flags(labels: Any, probabilities: Any) -> np.ndarray:
  """Return which labels are least plausible, bool[n]: by noise rate.

  Of each label i and class j, as many examples as `joint` estimates are
  flagged: those whose probability of j exceeds that of i by most.

  Args:
    labels: int[n], each class at least once.
    probabilities: float[n, classes], out of fold.

  Raises:
    ValueError: As `joint`.

  Example:
    >>> probs = np.asarray([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9], [0.3, 0.7]])
    >>> flags([0, 0, 1, 1], probs).tolist()
    [False, True, False, False]
  """
  given, probs = _checked(labels, probabilities)
  counts = np.rint(joint(given, probs)).astype(int)
  found = np.zeros(len(given), bool)
  for i in range(len(counts)):
    rows = np.flatnonzero(given == i)
    for j in range(len(counts)):
      if i != j and counts[i, j]:
        margin = probs[rows, j] - probs[rows, i]
        worst = np.argsort(-margin, kind="stable")[: counts[i, j]]
        found[rows[worst]] = True
  return found


def _checked(labels: Any, probabilities: Any) -> tuple[np.ndarray, np.ndarray]:
  probs = np.asarray(probabilities, np.float64)
  if probs.ndim != 2 or probs.shape[1] < 2:
    raise ValueError(
      f"probabilities are {describe(probs)}: pass float[n, classes]"
    )
  given = labelled.labels(labels, probs.shape[1])
  _require_classes(given, probs.shape[1], 1)
  return given, _probabilities(probs, (len(given), probs.shape[1]))


def _probabilities(value: Any, shape: tuple[int, int]) -> np.ndarray:
  found = np.asarray(value, np.float64)
  if found.shape != shape:
    raise ValueError(
      f"probabilities are {describe(found)}: expected {list(shape)}"
    )
  sums = found.sum(1)
  if not (found >= 0).all() or not np.allclose(sums, 1, atol=1e-3):
    raise ValueError("probabilities are not from 0 to 1 with a sum of 1")
  return found


def _require_classes(given: np.ndarray, classes: int, least: int) -> None:
  counts = np.bincount(given, minlength=classes)
  if np.min(counts) < least:
    raise ValueError(
      f"class {int(np.argmin(counts))} has {np.min(counts)} examples: at least "
      f"{least}"
    )
