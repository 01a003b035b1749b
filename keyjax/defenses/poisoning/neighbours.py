"""Labels that the nearest examples contradict.

Guarantees:
  None. Flips at random on classes that form clusters are found.

Known breaks:
  Poison that comes in clusters confirms itself: its neighbours have its label.
  Right labels on changed inputs agree with their neighbours. Rare but right
  examples are flagged.

References:
  Dennis Wilson, "Asymptotic properties of nearest neighbor rules using edited
  data", IEEE Transactions on Systems, Man, and Cybernetics 2, 1972. Andrea
  Paudice, Luis Munoz-Gonzalez and Emil Lupu, "Label sanitization against label
  flipping poisoning attacks", 2018, arXiv:1803.00992.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import labelled
from keyjax.arguments import whole_number


class Detection(NamedTuple):
  """How well flags find wrong labels.

  Attributes:
    recall: Share of the wrong labels that are flagged; NaN if none is wrong.
    precision: Share of the flags that are wrong labels; NaN without a flag.
    false_alarms: Share of the right labels that are flagged.
  """

  recall: float
  precision: float
  false_alarms: float


def votes(
  inputs: Any, labels: Any, classes: int, k: int = 10, at_once: int = 500
) -> np.ndarray:
  """Return how many of the k nearest other examples have each label.

  Args:
    inputs: float[n, ...]; distances are Euclidean.
    labels: int[n].
    classes: Number of classes.
    k: Number of neighbours, below n.
    at_once: Examples whose distances to all are in memory.

  Returns:
    int32[n, classes].

  Raises:
    ValueError: If shapes, labels or numbers are wrong.

  Example:
    >>> x = np.asarray([[0.0], [0.1], [0.2], [5.0]])
    >>> votes(x, [0, 0, 1, 1], classes=2, k=2).tolist()
    [[1, 1], [1, 1], [2, 0], [1, 1]]
  """
  given = labelled.labels(labels, classes)
  n, k = len(given), whole_number(k, "k")
  points = labelled.inputs(inputs, n).reshape(n, -1)
  if k >= n:
    raise ValueError(f"k={k}: below the number of examples, {n}")
  # Distances do not change with the origin, and rounding is least around it.
  points = points - points.mean(0)
  whole, own = (
    jnp.asarray(points),
    jax.nn.one_hot(given, classes, dtype=jnp.int32),
  )
  found = []
  for start in range(0, n, whole_number(at_once, "at_once")):
    rows = jnp.arange(start, min(start + at_once, n))
    near = _nearest(whole, rows, k)
    found.append(np.asarray(own[near].sum(1), np.int32))
  return np.concatenate(found)


@jax.jit(static_argnums=2)
def _nearest(points: jax.Array, rows: jax.Array, k: int) -> jax.Array:
  """Return the k nearest other points of some points, int[r, k]."""
  squares = (points * points).sum(-1)
  distances = squares[None] - 2 * points[rows] @ points.T
  distances = distances.at[jnp.arange(len(rows)), rows].set(jnp.inf)
  return jax.lax.top_k(-distances, k)[1]


def flags(inputs: Any, labels: Any, classes: int, k: int = 10) -> np.ndarray:
  """Return whether most neighbours of an example have another label, bool[n].

  "Most" is the label with most votes; of equal ones, its own counts first.

  Args:
    inputs: float[n, ...].
    labels: int[n].
    classes: Number of classes.
    k: Number of neighbours.

  Raises:
    ValueError: As `votes`.

  Example:
    >>> x = np.asarray([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]])
    >>> flags(x, [0, 0, 1, 1, 1, 1], classes=2, k=2).tolist()
    [False, False, True, False, False, False]
  """
  found = votes(inputs, labels, classes, k)
  own = np.take_along_axis(found, np.asarray(labels)[:, None], 1)[:, 0]
  return np.asarray(found.max(1) > own)


def detection(flagged: Any, wrong: Any) -> Detection:
  """Return how well flags find wrong labels.

  Args:
    flagged: bool[n].
    wrong: bool[n], which labels are wrong.

  Raises:
    ValueError: If shapes differ, or there are no examples.

  Example:
    >>> detection([True, True, False], [True, False, False])
    Detection(recall=1.0, precision=0.5, false_alarms=0.5)
  """
  a, b = np.asarray(flagged, bool), np.asarray(wrong, bool)
  if a.shape != b.shape or a.ndim != 1 or not len(a):
    raise ValueError(
      f"flagged and wrong have shapes {a.shape} and {b.shape}: pass bool[n]"
    )
  both = int((a & b).sum())
  return Detection(
    both / int(b.sum()) if b.any() else np.nan,
    both / int(a.sum()) if a.any() else np.nan,
    float((a & ~b).sum() / max(int((~b).sum()), 1)),
  )
