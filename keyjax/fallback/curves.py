"""What asking costs: risk against coverage.

Coverage is the share of inputs that are answered, risk the share of answers
that are wrong. Inputs of equal confidence are answered together. A confidence
that is NaN or minus infinity is never above a threshold; the curve counts its
input as the last one to be answered, wrongly.

References:
  Ran El-Yaniv and Yair Wiener, "On the foundations of noise-free selective
  classification", JMLR 11, 2010.
  Yonatan Geifman, Guy Uziel and Ran El-Yaniv, "Bias-reduced uncertainty
  estimation for deep neural classifiers", ICLR 2019 (AURC).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from keyjax.attacks.evasion.problem import as_float
from keyjax.attacks.intervals import clopper_pearson


class Curve(NamedTuple):
  """Risk against coverage, a point for each of n inputs, the surest first.

  Attributes:
    threshold: float[n]; `unless(confidence, above=threshold)` gives the point.
    coverage: float[n], from 0 to 1.
    risk: float[n], from 0 to 1.
  """

  threshold: jax.Array
  coverage: jax.Array
  risk: jax.Array


class Operation(NamedTuple):
  """A threshold, and what it costs.

  Attributes:
    threshold: For `unless(confidence, above=threshold)`; infinite if every
      input asks.
    coverage: Share of the inputs that are answered.
    coverage_interval: Exact 95 % interval of the coverage.
    risk: Share of the answers that are wrong; 0 without an answer.
    risk_interval: Exact 95 % interval of the risk at this threshold.
  """

  threshold: float
  coverage: float
  coverage_interval: tuple[float, float]
  risk: float
  risk_interval: tuple[float, float]


def risk_coverage(confidence: ArrayLike, wrong: ArrayLike) -> Curve:
  """Return the risk-coverage curve of a confidence.

  Args:
    confidence: float[n], a greater one is answered first.
    wrong: bool[n], whether the model's class is wrong.

  Raises:
    ValueError: If the shapes are not equal and of one axis.

  Example:
    >>> curve = risk_coverage(
    ...   jnp.asarray([0.9, 0.8, 0.7, 0.7]), jnp.asarray([0, 1, 0, 1]) > 0
    ... )
    >>> curve.coverage.tolist(), curve.risk.tolist()
    ([0.25, 0.5, 1.0, 1.0], [0.0, 0.5, 0.5, 0.5])
  """
  check_pair(confidence, wrong)
  return _curve(as_float(jnp.asarray(confidence)), jnp.asarray(wrong))


@jax.jit
def _curve(confidence: jax.Array, wrong: jax.Array) -> Curve:
  never = jnp.isnan(confidence) | (confidence == -jnp.inf)
  confidence = jnp.where(never, -jnp.inf, confidence)
  order = jnp.argsort(-confidence)
  sure, errors = confidence[order], jnp.cumsum((wrong | never)[order])
  # The end of each input's group of equal confidences: 1, ..., n.
  answered = jnp.searchsorted(-sure, -sure, side="right")
  next_lower = jnp.append(sure, -jnp.inf)[answered]
  counts = answered.astype(confidence.dtype)
  risk = errors[answered - 1].astype(confidence.dtype) / counts
  return Curve(next_lower, counts / len(sure), risk)


def aurc(confidence: ArrayLike, wrong: ArrayLike) -> jax.Array:
  """Return the area under the risk-coverage curve, a scalar.

  The mean risk over the n coverages: 0 for a model without errors, and its
  error for a confidence that is drawn at random.

  Args:
    confidence: float[n].
    wrong: bool[n].

  Example:
    >>> aurc(jnp.asarray([0.9, 0.8]), jnp.asarray([False, True])).tolist()
    0.25
  """
  return risk_coverage(confidence, wrong).risk.mean()


def coverage_at_risk(
  confidence: ArrayLike, wrong: ArrayLike, risk: float = 0.01
) -> Operation:
  """Return the greatest coverage at which the measured risk is low enough.

  It was chosen on the inputs that it was measured on: `risk` is no bound for
  others; `keyjax.fallback.certified_threshold` has one.

  Args:
    confidence: float[n].
    wrong: bool[n].
    risk: Greatest share of wrong answers, from 0 to 1.

  Raises:
    ValueError: If an argument is out of range.

  Example:
    >>> found = coverage_at_risk(
    ...   jnp.asarray([0.9, 0.8, 0.6, 0.7]), jnp.asarray([0, 0, 1, 1]) > 0
    ... )
    >>> found.coverage, round(found.threshold, 1), found.risk
    (0.5, 0.7, 0.0)
  """
  if not 0 <= risk <= 1:
    raise ValueError(f"risk={risk}: from 0 to 1")
  curve = risk_coverage(confidence, wrong)
  possible = np.asarray(curve.risk) <= risk
  confidence, wrong = np.asarray(confidence), np.asarray(wrong)
  threshold = np.inf
  if possible.any():
    threshold = float(curve.threshold[np.flatnonzero(possible)[-1]])
  answered = confidence > threshold
  n, k = len(answered), int(answered.sum())
  errors = int((answered & wrong).sum())
  return Operation(
    threshold=threshold,
    coverage=k / n,
    coverage_interval=clopper_pearson(k, n),
    risk=errors / max(k, 1),
    risk_interval=clopper_pearson(errors, k) if k else (0.0, 1.0),
  )


def check_pair(confidence: ArrayLike, wrong: ArrayLike) -> None:
  """Raise a ValueError unless there is one confidence for each bool."""
  shapes = np.shape(confidence), np.shape(wrong)
  if shapes[0] != shapes[1] or len(shapes[0]) != 1 or not shapes[0][0]:
    raise ValueError(
      f"confidence{list(shapes[0])}, wrong{list(shapes[1])}: one axis of equal "
      "length, at least 1"
    )
  if not jnp.issubdtype(jnp.result_type(wrong), jnp.bool_):
    raise ValueError(
      f"wrong is {jnp.result_type(wrong)}: bool, such as classes != labels"
    )
