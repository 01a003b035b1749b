"""What scores tell of membership: figures with intervals over examples.

Source: Bradley Efron, "Bootstrap methods: another look at the jackknife", The
Annals of Statistics 7(1), 1979.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from keyjax.arguments import seed_number, show, whole_number
from keyjax.attacks.intervals import CONFIDENCE, clopper_pearson
from keyjax.attacks.privacy import roc, signals

_BLOCK = 1 << 22  # Counts of resamples at a time: 32 MiB.


class Estimate(NamedTuple):
  """A value, and the ends of its 95 % interval."""

  value: float
  low: float
  high: float


class Point(NamedTuple):
  """The TPR at an FPR.

  Attributes:
    rate: The FPR.
    tpr: The TPR, with its interval.
    resolved: Whether one of the others is at most that share of them. Without,
      the TPR is that at an FPR of 0, and of another number of others it would
      be another one.
  """

  rate: float
  tpr: Estimate
  resolved: bool


class Leak(NamedTuple):
  """What scores tell of membership.

  Attributes:
    auc: Area under the ROC curve.
    points: TPR at each of the rates.
    accuracy: Balanced accuracy at the best threshold, which an attacker would
      have to know: above chance by chance, and no less than what
      `roc.at_threshold` finds for a threshold of theirs.
    members: Number of members.
    others: Number of examples that are no members.
    nan: Number of scores that are NaN.
  """

  auc: Estimate
  points: tuple[Point, ...]
  accuracy: Estimate
  members: int
  others: int
  nan: int


def leak(
  scores: Any,
  members: Any,
  rates: Sequence[float] = (0.01, 0.001),
  *,
  resamples: int = 1000,
  seed: int = 0,
) -> Leak:
  """Return AUC, TPR at low FPRs and balanced accuracy, with 95 % intervals.

  Intervals are between percentiles of a bootstrap of examples, members and
  others apart. They are over examples, for one target: targets differ too.
  If no resample of a share of 0 or 1 differs, they are exact (Clopper-Pearson)
  of as many trials as there are members or others, whichever are fewer.

  Args:
    scores: float[n], greater for a member.
    members: bool[n].
    rates: FPRs.
    resamples: Number of resamples, of n draws each.
    seed: Seed of the resamples.

  Raises:
    TypeError: If rates are no sequence.
    ValueError: If shapes differ, there are no members, or only members, a rate
      is no share, or resamples is no number of them.

  Example:
    >>> members = np.arange(400) % 2 > 0
    >>> found = leak(np.where(members, 1.0, 0.0), members)
    >>> found.auc.value, found.points[0].resolved, found.points[1].resolved
    (1.0, True, False)
  """
  if isinstance(rates, str) or not np.iterable(rates):
    raise TypeError(f"rates={show(rates)}: pass several, such as (0.01,)")
  shares = [signals.check_share(rate, "rates") for rate in rates]
  resamples = whole_number(resamples, "resamples")
  found = roc.curve(scores, members)
  levels = roc.by_level(*roc.check(scores, members))
  rng = np.random.default_rng(seed_number(seed))
  drawn = _resample(levels, shares, resamples, rng)
  values = [roc.auc(found), roc.balanced_accuracy(found)]
  values += [roc.tpr_at(found, rate) for rate in shares]
  fewer = min(found.members, found.others)
  area, accuracy, *tprs = (
    _estimate(value, of_all, fewer)
    for value, of_all in zip(values, drawn, strict=True)
  )
  points = (
    Point(rate, tpr, roc.resolves(found, rate))
    for rate, tpr in zip(shares, tprs, strict=True)
  )
  return Leak(
    area, tuple(points), accuracy, found.members, found.others, found.nan
  )


def _resample(
  levels: roc.Levels,
  rates: Sequence[float],
  resamples: int,
  rng: np.random.Generator,
) -> np.ndarray:
  """Return AUC, balanced accuracy and TPRs, float64[2 + rates, resamples]."""

  def draw(counts: np.ndarray, size: int) -> np.ndarray:
    total = int(counts.sum())
    return roc.called(rng.multinomial(total, counts / total, size)) / total

  block = max(1, _BLOCK // len(levels.values))
  others = levels.others.sum()
  found = []
  for start in range(0, resamples, block):
    size = min(block, resamples - start)
    tpr, fpr = draw(levels.members, size), draw(levels.others, size)
    best = ((tpr + 1 - fpr) / 2).max(-1)
    at = [
      np.where(fpr * others <= rate * others + roc.ROUNDING, tpr, 0).max(-1)
      for rate in rates
    ]
    found.append(np.stack([roc.area(fpr, tpr), best, *at]))
  return np.concatenate(found, -1)


def _estimate(value: float, drawn: np.ndarray, trials: int) -> Estimate:
  """Return a value with its interval, which contains it."""
  tail = (1 - CONFIDENCE) / 2
  low, high = np.quantile(drawn, (tail, 1 - tail))
  if low == high and value in (0, 1):
    return Estimate(value, *clopper_pearson(round(value * trials), trials))
  return Estimate(value, min(float(low), value), max(float(high), value))


def describe_point(point: Point) -> str:
  """Return a TPR as text, which says if there are too few others for it.

  Example:
    >>> describe_point(Point(0.001, Estimate(0.1, 0.05, 0.2), False))
    'TPR 10.0 % [5.0, 20.0] at FPR 0.1 % (too few non-members: at FPR 0)'
  """
  tpr = point.tpr
  text = (
    f"TPR {100 * tpr.value:.1f} % [{100 * tpr.low:.1f}, {100 * tpr.high:.1f}] "
    f"at FPR {100 * point.rate:g} %"
  )
  return text + ("" if point.resolved else " (too few non-members: at FPR 0)")
