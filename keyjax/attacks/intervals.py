"""Intervals of measured shares, means and differences."""

import numpy as np
import scipy.stats

CONFIDENCE = 0.95


def clopper_pearson(
  correct: int, total: int, among: int = 1
) -> tuple[float, float]:
  """Return the exact 95 % interval of a share.

  For the largest of `among` shares, it includes Bonferroni's correction.

  Clopper, Pearson, "The use of confidence or fiducial limits", Biometrika
  26(4), 1934.

  Example:
    >>> [round(x, 3) for x in clopper_pearson(8, 10)]
    [0.444, 0.975]
  """
  interval = scipy.stats.binomtest(int(correct), int(total)).proportion_ci(
    1 - (1 - CONFIDENCE) / among, method="exact"
  )
  return float(interval.low), float(interval.high)


def mean_interval(
  values: np.ndarray, bounds: tuple[float, float] = (0.0, 1.0)
) -> tuple[float, float]:
  """Return the 95 % interval of a mean (Student's t).

  It has no width where all values are equal; use an interval over images there.

  Args:
    values: Values, at least one.
    bounds: Smallest and largest possible value; of shares by default.

  Example:
    >>> [round(x, 2) for x in mean_interval(np.array([0.1, 0.2, 0.3]))]
    [0.0, 0.45]
  """
  if len(values) < 2 or np.ptp(values) == 0:
    mean = float(np.mean(values))  # Its rounding is the reported value's.
    return mean, mean
  low, high = scipy.stats.t.interval(
    CONFIDENCE, len(values) - 1, np.mean(values), scipy.stats.sem(values)
  )
  return max(float(low), bounds[0]), min(float(high), bounds[1])


def difference(
  first: tuple[float, float, float], second: tuple[float, float, float]
) -> tuple[float, float]:
  """Return the 95 % interval of the difference of two independent shares.

  Newcombe, "Interval estimation for the difference between independent
  proportions", Statistics in Medicine 17, 1998, method 10, from the exact
  intervals of the two.

  Args:
    first: Value, low end and high end of the first share.
    second: The same for the share that is subtracted.

  Example:
    >>> low, high = difference((0.9, 0.88, 0.92), (0.5, 0.47, 0.53))
    >>> round(low, 3), round(high, 3)
    (0.364, 0.436)
  """
  (a, a_low, a_high), (b, b_low, b_high) = first, second
  below = np.hypot(a - a_low, b_high - b)
  above = np.hypot(a_high - a, b - b_low)
  return float(a - b - below), float(a - b + above)
