"""Clean validation: does a model fail more often on suspect data?

A model is trained on suspect data; a slice of them is held out. If their labels
are as good as those of a small trusted set, both have the same error. Fisher's
exact test compares the two, without an assumption about either.

Guarantees:
  Of data that are alike, at most a share `level` is called suspicious.

Known breaks:
  It is blind to what leaves the error as it was: a trojan, few poisoned points,
  a slice that the attacker has not poisoned. With few examples it has no power:
  `power` computes it beforehand.

Reference:
  Ronald Fisher, "On the interpretation of chi-squared from contingency tables,
  and the calculation of P", Journal of the Royal Statistical Society 85, 1922.
"""

from typing import NamedTuple

import numpy as np
import scipy.stats

from keyjax import labelled
from keyjax.arguments import whole_number

# Equal probabilities differ by rounding: SciPy's test allows as much.
_EQUAL = 1 + 1e-7


class Counts(NamedTuple):
  """Errors of a model on some examples.

  Attributes:
    wrong: Number of examples that it gets wrong.
    total: Number of examples.
  """

  wrong: int
  total: int


class Found(NamedTuple):
  """What the test says.

  Attributes:
    pvalue: Probability of counts at least as unlikely, if the data are alike.
    suspicious: Whether it is at most the level.
  """

  pvalue: float
  suspicious: bool


def compare(suspect: Counts, trusted: Counts, level: float = 0.01) -> Found:
  """Return whether errors on suspect and trusted data differ (two-sided).

  Args:
    suspect: Errors on a held-out slice of the suspect data.
    trusted: Errors on trusted data; neither is trained on.
    level: Share of false alarms.

  Raises:
    ValueError: If a count is out of range, or the level is no share.

  Example:
    >>> compare(Counts(60, 200), Counts(10, 200)).suspicious
    True
    >>> compare(Counts(11, 200), Counts(10, 200)).pvalue
    1.0
  """
  table = []
  for name, counts in (("suspect", suspect), ("trusted", trusted)):
    total = whole_number(counts.total, f"{name}.total")
    wrong = whole_number(counts.wrong, f"{name}.wrong", least=0)
    if wrong > total:
      raise ValueError(f"{name}.wrong={wrong}: of {total} examples")
    table.append([wrong, total - wrong])
  pvalue = float(scipy.stats.fisher_exact(np.asarray(table)).pvalue)
  return Found(min(pvalue, 1.0), pvalue <= labelled.share(level, "level"))


def power(
  suspect_error: float,
  trusted_error: float,
  suspect_total: int,
  trusted_total: int,
  level: float = 0.01,
) -> float:
  """Return how often data with these errors are called suspicious, exactly.

  Args:
    suspect_error: True error on the suspect data.
    trusted_error: True error on the trusted data.
    suspect_total: Number of suspect examples.
    trusted_total: Number of trusted examples.
    level: Share of false alarms.

  Returns:
    Probability; with equal errors, that of a false alarm.

  Raises:
    ValueError: If a number is out of range.

  Example:
    >>> round(power(0.16, 0.06, 200, 200), 2)
    0.71
    >>> power(0.06, 0.06, 200, 200) < 0.01
    True
  """
  n = whole_number(suspect_total, "suspect_total")
  m = whole_number(trusted_total, "trusted_total")
  labelled.share(level, "level")
  a = _binomial(n, labelled.share(suspect_error, "suspect_error"))
  b = _binomial(m, labelled.share(trusted_error, "trusted_error"))
  total = 0.0
  for wrong in range(n + m + 1):
    first, pvalues = _pvalues(n, m, wrong)
    rejected = first[pvalues <= level]
    total += float(a[rejected] @ b[wrong - rejected])
  return min(total, 1.0)


def _binomial(n: int, p: float) -> np.ndarray:
  return np.asarray(scipy.stats.binom.pmf(np.arange(n + 1), n, p))


def _pvalues(n: int, m: int, wrong: int) -> tuple[np.ndarray, np.ndarray]:
  """Return how many of `wrong` may be suspect, and the p-value of each."""
  first = np.arange(max(0, wrong - m), min(n, wrong) + 1)
  chance = scipy.stats.hypergeom.pmf(first, n + m, n, wrong)
  order = np.argsort(chance)
  below = np.cumsum(chance[order])
  # All counts that are no more likely, those that are as likely included.
  last = np.searchsorted(chance[order], chance * _EQUAL, side="right")
  return first, below[last - 1]
