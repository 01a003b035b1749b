"""Linear probes: from which layers a linear reader can predict the label.

Ridge regression on standardised activations, one output for each class, the
largest output wins; a fifth of the training examples selects the penalty. An
accurate probe shows that the label can be read there, not that the network uses
it, and is meaningful only in comparison with the same probe on an untrained
network.

References:
  Alain, Bengio, "Understanding intermediate layers using linear classifier
  probes", 2016, arXiv 1610.01644. Hewitt, Liang, "Designing and Interpreting
  Probes with Control Tasks", EMNLP 2019, arXiv 1909.03368: a probe's accuracy
  needs a control. Zhang, Bowman, 2018, arXiv 1809.10040: untrained networks.
"""

from typing import NamedTuple

import numpy as np
import scipy.linalg

PENALTIES = (1e-3, 1e-2, 1e-1)


class Probe(NamedTuple):
  """A linear reader of one layer.

  Attributes:
    mean: float64[features].
    scale: float64[features], 0 for features that do not vary.
    weights: float32[features, classes].
    offset: float32[classes].
    penalty: Penalty that was selected, of `PENALTIES`.
  """

  mean: np.ndarray
  scale: np.ndarray
  weights: np.ndarray
  offset: np.ndarray
  penalty: float

  def __call__(self, x: np.ndarray) -> np.ndarray:
    """Return the predicted classes, int64[n]."""
    return (self.standardise(x) @ self.weights + self.offset).argmax(1)

  def standardise(self, x: np.ndarray) -> np.ndarray:
    """Return float32[n, features] of mean 0 and variance 1 where fitted."""
    z = (np.asarray(x, np.float64) - self.mean) * self.scale
    return z.astype(np.float32)


def fit(x: np.ndarray, labels: np.ndarray, classes: int) -> Probe:
  """Fit a probe in closed form.

  Args:
    x: Finite float32[n, features].
    labels: int[n], from 0 to `classes` - 1.
    classes: Number of classes.

  Raises:
    ValueError: If there are fewer than 10 examples.

  Example:
    >>> rng = np.random.default_rng(0)
    >>> labels = rng.integers(0, 3, 300)
    >>> x = np.eye(3)[labels] @ rng.normal(size=(3, 20))
    >>> x = (x + 0.1 * rng.normal(size=x.shape)).astype(np.float32)
    >>> bool((fit(x, labels, 3)(x) == labels).all())
    True
  """
  if len(x) < 10:
    raise ValueError(f"a probe needs at least 10 examples, got {len(x)}")
  x = np.asarray(x, np.float64)  # Wrong keys give values of 1e38.
  mean, deviation = x.mean(0), x.std(0)
  varies = deviation > 1e-7 * max(float(np.abs(x).max()), 1e-30)
  scale = varies / np.where(varies, deviation, 1)
  probe = Probe(mean, scale, np.zeros(0), np.zeros(0), 0.0)
  z = probe.standardise(x)
  targets = np.eye(classes, dtype=np.float32)[labels]
  cut = len(x) - len(x) // 5
  tried = [
    ((z[cut:] @ w + b).argmax(1) == labels[cut:]).mean()
    for w, b in _solve(z[:cut], targets[:cut], PENALTIES)
  ]
  penalty = PENALTIES[int(np.argmax(tried))]
  weights, offset = _solve(z, targets, [penalty])[0]
  return Probe(mean, scale, weights, offset, penalty)


def _solve(
  z: np.ndarray, targets: np.ndarray, penalties: tuple | list
) -> list[tuple[np.ndarray, np.ndarray]]:
  """Return weights and offset for each penalty, a share of the mean variance.

  The smaller of the two normal equations is solved.
  """
  middle = z.mean(0)
  offset = targets.mean(0)
  z = z - middle
  targets = targets - offset
  wide = z.shape[1] > len(z)
  normal = (z @ z.T if wide else z.T @ z).astype(np.float64)
  side = targets if wide else z.T @ targets
  unit = np.trace(normal) / len(normal) or 1.0
  found = []
  for penalty in penalties:
    ridge = normal + penalty * unit * np.eye(len(normal))
    w = scipy.linalg.solve(ridge, side, assume_a="pos").astype(np.float32)
    w = z.T @ w if wide else w
    found.append((w, offset - middle @ w))
  return found
