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
import optax

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
    logits: Whether outputs are one array of logits over its last axis.
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
  logits: bool = True
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

  @property
  def imitation(self) -> Loss:
    """Loss against the outputs of another model instead of labels."""
    return _divergence if self.logits else _squared_error

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


def _divergence(logits: jax.Array, wanted: jax.Array) -> jax.Array:
  """Return the cross-entropy to another model's distribution, float32[b]."""
  found = optax.softmax_cross_entropy(logits, jax.nn.softmax(wanted))
  return found.reshape(len(found), -1).mean(1)


def _squared_error(outputs: Any, wanted: Any) -> jax.Array:
  """Return the mean squared error, summed over arrays, float32[b]."""

  def one(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.square(x - y).reshape(len(x), -1).mean(1)

  errors = jax.tree.leaves(jax.tree.map(one, outputs, wanted))
  return jnp.stack(errors).sum(0)


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
  """Return the share of each example's outputs that proves nothing.

  Args:
    outputs: Outputs of a model. Of one array, float[b, ..., classes], the share
      of positions with a logit that is NaN or infinite; of other pytrees, 1 for
      an example with such a number.

  Returns:
    float32[b].

  Example:
    >>> nonfinite(jnp.asarray([[[0.0, 1.0], [jnp.nan, 0.0]]])).tolist()
    [0.5]
  """
  leaves = jax.tree.leaves(outputs)
  bad = [_bad(x) for x in leaves if jnp.issubdtype(x.dtype, jnp.inexact)]
  if not bad:
    return jnp.zeros(len(leaves[0]), jnp.float32)
  if len(leaves) == 1:
    return bad[0].mean(1)
  return jnp.stack([x.max(1) for x in bad]).max(0)


def _bad(x: jax.Array) -> jax.Array:
  """Return 1.0 for positions that are not finite, float32[b, positions]."""
  found = ~jnp.isfinite(x)
  if x.ndim > 1:
    found = found.any(-1)
  return found.reshape(len(x), -1).astype(jnp.float32)
