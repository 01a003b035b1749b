"""Intervals of measured shares, means, differences and metrics of tasks."""

from typing import Any

import numpy as np
import scipy.stats

from keyjax.tasks.task import Task, num_examples

CONFIDENCE = 0.95
_RESAMPLES = 1000


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
  if not 0 <= correct <= total or total < 1:  # SciPy 1.18 does not say so.
    raise ValueError(f"{correct} of {total}: must be a share")
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


def of_metric(
  task: Task, statistics: Any, metric: str = "", among: int = 1
) -> tuple[float, float]:
  """Return the 95 % interval of a task's metric, over examples.

  It is exact (Clopper-Pearson) where the metric is the share of examples that
  are right, and otherwise Efron's bootstrap of examples, between percentiles.
  If all examples have a share of 0, or of 1, no resample differs: there it is
  the exact one of as many examples that are wrong, or right. One example says
  nothing of others: there it is all that the metric can be, if it has bounds.
  For the largest of `among` models, it includes Bonferroni's correction.

  Efron, "Bootstrap methods: another look at the jackknife", The Annals of
  Statistics 7(1), 1979.

  Args:
    task: The task.
    statistics: Its statistics, a pytree of [n, ...].
    metric: Name of the metric; by default the one that judges.
    among: Number of models from which this one was chosen.

  Returns:
    Both ends; NaN if the metric of a resample is NaN, as without any object.

  Example:
    >>> from keyjax import tasks
    >>> words = {"errors": np.array([0, 1, 0, 4]), "length": np.full(4, 5)}
    >>> low, high = of_metric(tasks.get("words"), words)
    >>> low < 0.75 < high
    True
  """
  metric = metric or task.metric
  n = num_examples(statistics)
  if task.exact and metric == task.metric:
    hits = np.asarray(statistics["hits"])
    return clopper_pearson(int(hits.sum()), n, among)
  judges = metric == task.metric
  if n == 1 and judges and np.isfinite(task.bounds).all():
    return task.bounds
  rng = np.random.default_rng(0)
  counts = rng.multinomial(n, np.full(n, 1 / n), _RESAMPLES)
  found = np.asarray(task.metrics[metric](statistics, counts), np.float64)
  tail = (1 - CONFIDENCE) / 2
  with np.errstate(invalid="ignore"):  # Between an infinite one and another.
    low, high = np.quantile(found, (tail, 1 - tail))
  value = task.value(statistics, metric)
  if judges and task.is_share and low == high and value in (0, 1):
    return clopper_pearson(round(value * n), n, among)
  bounds = task.bounds if judges else (-np.inf, np.inf)
  return widened((value, float(low), float(high)), among, bounds)


def widened(
  score: tuple[float, float, float], among: int, bounds: tuple[float, float]
) -> tuple[float, float]:
  """Return an interval with Bonferroni's correction, as if it were normal.

  Args:
    score: Value, low end and high end of the largest of `among`.
    among: Number of values.
    bounds: Smallest and largest possible value.

  Example:
    >>> [round(x, 3) for x in widened((0.5, 0.4, 0.6), 10, (0.0, 1.0))]
    [0.357, 0.643]
  """
  value, low, high = score
  tail = (1 - CONFIDENCE) / 2
  z = scipy.stats.norm.ppf(1 - tail / among) / scipy.stats.norm.ppf(1 - tail)
  least, most = bounds
  return (
    float(max(value - z * (value - low), least)),
    float(min(value + z * (high - value), most)),
  )


def method(task: Task) -> str:
  """Return how `of_metric` finds the interval of the metric that judges.

  Example:
    >>> from keyjax import tasks
    >>> method(tasks.CLASSES), method(tasks.get("tokens"))
    ('Clopper-Pearson over images', 'bootstrap over examples')
  """
  if task.exact:
    return f"Clopper-Pearson over {task.unit}"
  return "bootstrap over examples"
