"""Thresholds with a guarantee, from inputs whose classes are known.

The loss of an input is 1 if it is answered wrongly and else 0; it does not grow
with the threshold. Its mean, the risk here, is the share of *all* inputs that
are answered wrongly: divide it by the coverage for the share of the answers.

References:
  Anastasios N. Angelopoulos, Stephen Bates, Adam Fisch, Lihua Lei and Tal
  Schuster, "Conformal risk control", ICLR 2024, arXiv 2208.02814.
  Stephen Bates, Anastasios N. Angelopoulos, Lihua Lei, Jitendra Malik and
  Michael I. Jordan, "Distribution-free, risk-controlling prediction sets",
  Journal of the ACM 68(6), 2021, arXiv 2101.02703.
"""

import math

import numpy as np
import scipy.stats
from jax.typing import ArrayLike

from keyjax.fallback.curves import check_pair


def conformal_threshold(
  confidence: ArrayLike, wrong: ArrayLike, *, risk: float
) -> float:
  """Return the least threshold that controls the expected risk.

  For `unless(confidence, above=threshold)`. The probability that the next input
  is answered wrongly is `risk` at most, over the draw of it and of these n
  inputs: for n of them that were drawn once, the risk may be greater.

  Args:
    confidence: float[n], of inputs that the model was not trained on.
    wrong: bool[n], whether the model's class is wrong.
    risk: Greatest share of inputs that are answered wrongly.

  Raises:
    ValueError: If there are fewer than 1 / risk - 1 inputs, which no threshold
      but an infinite one satisfies, or an argument is out of range.

  Example:
    >>> confidence = np.arange(100) / 100
    >>> wrong = confidence < 0.2
    >>> conformal_threshold(confidence, wrong, risk=0.05)
    0.15
  """
  check_pair(confidence, wrong)
  _check_share("risk", risk)
  n = np.size(confidence)
  # n / (n + 1) * errors / n + 1 / (n + 1) <= risk
  errors = math.floor(risk * (n + 1) * (1 + 1e-12)) - 1
  if errors < 0:
    raise ValueError(
      f"{n} calibration inputs, risk={risk}: at least {math.ceil(1 / risk) - 1}"
    )
  return _threshold(confidence, wrong, errors)


def certified_threshold(
  confidence: ArrayLike, wrong: ArrayLike, *, risk: float, delta: float = 0.05
) -> float:
  """Return the least threshold whose risk is bounded with high probability.

  As `conformal_threshold`, but for n inputs that were drawn once: the upper
  end of the exact binomial interval of the risk is below `risk`.

  Args:
    confidence: float[n], of inputs that the model was not trained on.
    wrong: bool[n], whether the model's class is wrong.
    risk: Greatest share of inputs that are answered wrongly.
    delta: Probability over the n inputs that the risk is greater.

  Raises:
    ValueError: If there are fewer than log(delta) / log(1 - risk) inputs, or an
      argument is out of range.

  Example:
    >>> confidence = np.arange(100) / 100
    >>> wrong = confidence < 0.2
    >>> certified_threshold(confidence, wrong, risk=0.05)
    0.18
  """
  check_pair(confidence, wrong)
  _check_share("risk", risk)
  _check_share("delta", delta)
  n = np.size(confidence)
  # Clopper and Pearson: the upper end of k errors is at most `risk` if so few
  # would be seen with a probability of `delta` at most.
  errors = int(scipy.stats.binom.ppf(delta, n, risk))
  errors -= int(scipy.stats.binom.cdf(errors, n, risk) > delta)
  if errors < 0:
    least = math.ceil(math.log(delta) / math.log1p(-risk))
    raise ValueError(
      f"{n} calibration inputs, risk={risk}, delta={delta}: at least {least}"
    )
  return _threshold(confidence, wrong, errors)


def _threshold(confidence: ArrayLike, wrong: ArrayLike, errors: int) -> float:
  """Return the least threshold that at most some wrong inputs are above."""
  values = np.asarray(confidence)[np.asarray(wrong)]
  values = np.sort(np.where(np.isnan(values), -np.inf, values))[::-1]
  return float(values[errors]) if len(values) > errors else -math.inf


def _check_share(name: str, value: float) -> None:
  if not 0 < value < 1:
    raise ValueError(f"{name}={value}: between 0 and 1")
