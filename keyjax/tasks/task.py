"""What a model is asked to do, and how its answers are judged.

A task turns the outputs of a model into numbers that add up over examples. From
these come its metrics, and, because each example keeps its own, their
intervals (`keyjax.attacks.intervals.of_metric`).
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Loss = Callable[[Any, Any], jax.Array]
Statistics = Callable[[Any, Any], Any]
Metric = Callable[[Any, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
  """A task: its loss, and the metrics that judge a model.

  Attributes:
    name: Name in configs and rows.
    unit: What a label belongs to, in the plural: `images`, `tokens`.
    loss: Function of outputs and labels to the loss of each example,
      float32[b], which training and attacks minimise.
    statistics: Function of outputs and labels to a pytree of float32[b, ...],
      the share of each example in the metrics. It is traced.
    metrics: Functions of statistics and of how often each example counts,
      int[r, n], to the metric of each row, float[r]. The first one judges:
      of two models, the better has more of it.
    exact: Whether the first metric is the share of examples that are right,
      statistic `hits`, so that its interval is exact.
    bounds: Smallest and largest value of the first metric.
    units: Function of labels to the number of units of one example.
    chance: Function of the number of classes to what guessing gives.
  """

  name: str
  unit: str
  loss: Loss
  statistics: Statistics
  metrics: Mapping[str, Metric]
  exact: bool = False
  bounds: tuple[float, float] = (0.0, 1.0)
  units: Callable[[Any], int] = lambda label: 1
  chance: Callable[[int], float] = lambda classes: 0.0

  @property
  def metric(self) -> str:
    """Name of the metric that judges."""
    return next(iter(self.metrics))

  @property
  def is_share(self) -> bool:
    """Whether the metric is a share, which tables show in percent."""
    return self.bounds == (0.0, 1.0)

  def value(self, statistics: Any, metric: str = "") -> float:
    """Return a metric of all examples.

    Args:
      statistics: Pytree of [n, ...].
      metric: Name of the metric; by default the one that judges.

    Example:
      >>> from keyjax import tasks
      >>> hits = {"hits": np.array([1.0, 1.0, 0.0, 1.0])}
      >>> tasks.CLASSES.value(hits)
      0.75
    """
    once = np.ones((1, num_examples(statistics)), np.int64)
    return float(self.metrics[metric or self.metric](statistics, once)[0])


def ratio(above: str, below: str) -> Metric:
  """Return the metric `sum of above / sum of below`; NaN for 0 / 0.

  Args:
    above: Name of a statistic, [n].
    below: Name of another.
  """

  def metric(statistics: Any, counts: np.ndarray) -> np.ndarray:
    top = counts @ np.asarray(statistics[above], np.float64)
    bottom = counts @ np.asarray(statistics[below], np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
      return np.asarray(top / bottom)

  return metric


def mean(name: str) -> Metric:
  """Return the metric that is the mean of a statistic, [n]."""

  def metric(statistics: Any, counts: np.ndarray) -> np.ndarray:
    found = counts @ np.asarray(statistics[name], np.float64)
    return np.asarray(found / counts.sum(1))

  return metric


def num_examples(examples: Any) -> int:
  """Return the number of examples of a pytree of [n, ...].

  Raises:
    ValueError: If the arrays have different numbers of examples, or there are
      no arrays.
  """
  sizes = {len(x) for x in jax.tree.leaves(examples)}
  if len(sizes) != 1:
    raise ValueError(
      f"expected arrays of one number of examples, got {sorted(sizes)}"
    )
  return sizes.pop()


def take(examples: Any, rows: Any) -> Any:
  """Return some examples of a pytree of [n, ...]: a slice, or indices."""
  return jax.tree.map(lambda x: x[rows], examples)


def nonfinite(outputs: Any) -> jax.Array:
  """Return which examples have an output that is NaN or infinite, bool[b]."""
  found = [
    ~jnp.isfinite(x.reshape(len(x), -1)).all(1)
    for x in jax.tree.leaves(outputs)
    if jnp.issubdtype(x.dtype, jnp.inexact)
  ]
  if not found:
    return jnp.zeros(len(jax.tree.leaves(outputs)[0]), bool)
  return jnp.stack(found).any(0)
