"""How well scores tell members from others: ROC curves, read at their left end.

An attack that names a few members for certain does harm, whatever it does for
the rest: the true positive rate (TPR) at a low false positive rate (FPR) shows
it, and AUC and accuracy, which are means over all examples, hide it.

Scores that are NaN are all tied, above or below all others, whichever gives the
smaller AUC: they are counted, and an attack gains nothing by them. Where all
are NaN, that is chance.

Figures are those of thresholds alone. jax-privacy's `CanaryScoreAuditor`, which
bounds epsilon in `keyjax.defenses.private`, reads the concave hull of the same
curve: thresholds mixed by a coin, chosen once the answers are known, for which
scores that say nothing have an AUC above one half.

Source: Nicholas Carlini et al., "Membership inference attacks from first
principles", IEEE S&P 2022, sections III and IV.
"""

import math
import numbers
from typing import Any, NamedTuple

import numpy as np

from keyjax.arguments import describe, show
from keyjax.attacks.privacy import signals

ROUNDING = 1e-9  # Of a rate times a number of examples.


class Curve(NamedTuple):
  """An ROC curve; row i calls all scores of at least thresholds[i] members.

  Attributes:
    fpr: float64[r], rising from 0 to 1.
    tpr: float64[r].
    thresholds: float64[r], falling from infinity, which calls none; NaN for
      the row that adds the scores that are NaN.
    members: Number of members.
    others: Number of examples that are no members.
    nan: Number of scores that are NaN.
  """

  fpr: np.ndarray
  tpr: np.ndarray
  thresholds: np.ndarray
  members: int
  others: int
  nan: int


class Levels(NamedTuple):
  """Examples by score: float64[levels], from the greatest score down."""

  values: np.ndarray
  members: np.ndarray
  others: np.ndarray


def curve(scores: Any, members: Any) -> Curve:
  """Return the ROC curve of scores, with a row for each different score.

  Args:
    scores: float[n], greater for a member.
    members: bool[n].

  Raises:
    ValueError: If shapes differ, or there are no members, or only members.

  Example:
    >>> members = np.array([True, True, False, False])
    >>> found = curve(np.array([3.0, 2.0, 2.0, 1.0]), members)
    >>> found.fpr.tolist(), found.tpr.tolist()
    ([0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0])
  """
  scores, members = check(scores, members)
  levels = by_level(scores, members)
  called_out, called_in = called(levels.others), called(levels.members)
  return Curve(
    fpr=called_out / called_out[-1],
    tpr=called_in / called_in[-1],
    thresholds=np.concatenate([[np.inf], levels.values]),
    members=int(called_in[-1]),
    others=int(called_out[-1]),
    nan=int(np.isnan(scores).sum()),
  )


def auc(found: Curve) -> float:
  """Return the area under a curve: P(member above other) + P(tied) / 2.

  Example:
    >>> auc(curve(np.array([3.0, 2.0, 2.0]), np.array([True, True, False])))
    0.75
  """
  return float(area(found.fpr, found.tpr))


def tpr_at(found: Curve, rate: float) -> float:
  """Return the greatest TPR of a threshold whose FPR is at most `rate`.

  There is no interpolation: points between two thresholds need a coin.

  Args:
    found: The curve.
    rate: The FPR; see `resolves`.

  Example:
    >>> tpr_at(curve(np.array([3.0, 2.0, 1.0]), np.array([1, 0, 1]) > 0), 0.01)
    0.5
  """
  rate = signals.check_share(rate, "rate")
  within = found.fpr * found.others <= rate * found.others + ROUNDING
  return float(found.tpr[within].max())


def resolves(found: Curve, rate: float) -> bool:
  """Return whether one false positive is at most a share `rate` of the others.

  Example:
    >>> few = curve(np.arange(4.0), np.array([True, True, False, False]))
    >>> resolves(few, 0.01), resolves(few, 0.5)
    (False, True)
  """
  return signals.check_share(rate, "rate") * found.others + ROUNDING >= 1


def balanced_accuracy(found: Curve) -> float:
  """Return (TPR + 1 - FPR) / 2 at the best threshold, at least 0.5.

  Example:
    >>> balanced_accuracy(curve(np.arange(4.0), np.arange(4) > 1))
    1.0
  """
  return float(((found.tpr + 1 - found.fpr) / 2).max())


def at_threshold(scores: Any, members: Any, threshold: float) -> float:
  """Return the balanced accuracy of calling scores >= threshold members.

  Scores that are NaN are called all members, or none, whichever is worse.

  Args:
    scores: float[n], greater for a member.
    members: bool[n].
    threshold: From other models or data than these, to be what an attacker has.

  Raises:
    TypeError: If the threshold is no number.
    ValueError: If shapes differ, there are no members, or only members, or the
      threshold is NaN.

  Example:
    >>> at_threshold(np.array([0.9, 0.2, 0.6]), np.array([1, 1, 0]) > 0, 0.5)
    0.25
  """
  scores, members = check(scores, members)
  if not isinstance(threshold, numbers.Real):
    raise TypeError(f"threshold={show(threshold)}: a number, as scores are")
  if math.isnan(threshold):
    raise ValueError("threshold is NaN")

  def accuracy(named: np.ndarray) -> float:
    return float((named[members].mean() + 1 - named[~members].mean()) / 2)

  named = scores >= threshold
  return min(accuracy(named), accuracy(named | np.isnan(scores)))


def check(scores: Any, members: Any) -> tuple[np.ndarray, np.ndarray]:
  """Return scores as float64[n] and members, or raise ValueError."""
  found = signals.check_values(scores, "scores", (1,))
  among = np.asarray(members)
  if among.dtype != np.bool_ or among.shape != found.shape:
    raise ValueError(f"members are {describe(among)}: pass bool[{len(found)}]")
  if among.all() or not among.any():
    raise ValueError(
      f"{among.sum()} of {len(among)} examples are members: pass some of each"
    )
  return found, among


def by_level(scores: np.ndarray, members: np.ndarray) -> Levels:
  """Return the examples of each score, those of NaN where they help least."""
  is_nan = np.isnan(scores)
  values, level = np.unique(-scores[~is_nan], return_inverse=True)

  def counts(chosen: np.ndarray) -> np.ndarray:
    return np.bincount(level[chosen[~is_nan]], minlength=len(values))

  found = Levels(-values, counts(members), counts(~members))
  if not is_nan.any():
    return found
  nan = Levels(
    *np.array(
      [[np.nan], [(is_nan & members).sum()], [(is_nan & ~members).sum()]]
    )
  )
  first = Levels(*map(np.concatenate, zip(nan, found, strict=True)))
  last = Levels(*map(np.concatenate, zip(found, nan, strict=True)))
  return min(first, last, key=_unscaled_area)


def _unscaled_area(levels: Levels) -> float:
  return float(area(called(levels.others), called(levels.members)))


def called(counts: np.ndarray) -> np.ndarray:
  """Return how many examples each threshold calls members, from none to all."""
  none = np.zeros((*counts.shape[:-1], 1))
  return np.concatenate([none, np.cumsum(counts, -1)], -1)


def area(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Return the area under curves, of their last axis."""
  return np.asarray(np.trapezoid(y, x, axis=-1))
