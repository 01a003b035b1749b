"""Points that no model fits: inputs that occur with two labels.

Whatever a model says of an input, it says of each of its copies. If their
labels differ, no training brings the loss below the entropy of these labels,
however large the network: `least_loss` is that bound. Flipped labels of
different inputs have no such bound, but take a network long to memorise.

Needs: adding examples. Cost: none.
"""

from typing import Any

import jax
import numpy as np

from keyjax import labelled
from keyjax.arguments import whole_number
from keyjax.attacks.game import Examples
from keyjax.attacks.poisoning import label_flips


def contradict(
  inputs: Any, labels: Any, share: float, classes: int, *, rng: jax.Array
) -> Examples:
  """Add copies of some examples, with another label.

  Args:
    inputs: float[n, ...].
    labels: int[n].
    share: Number of copies, as a share of the examples.
    classes: Number of classes.
    rng: JAX PRNG key.

  Returns:
    The examples, and the copies after them.

  Raises:
    ValueError: If shapes, labels or numbers are wrong.

  Example:
    >>> found = contradict([[0.1], [0.2]], [0, 1], 0.5, 2,
    ...   rng=jax.random.key(0))
    >>> len(found.label), round(least_loss(found.image, found.label, 2), 3)
    (3, 0.462)
  """
  classes = whole_number(classes, "classes", least=2)
  given = labelled.labels(labels, classes)
  points = labelled.inputs(inputs, len(given))
  found = label_flips.at_random(given, share, classes, rng=rng)
  return Examples(
    np.concatenate([points, points[found.flipped]]),
    np.concatenate([given, found.label[found.flipped]]),
  )


def least_loss(inputs: Any, labels: Any, classes: int) -> float:
  """Return the least mean cross-entropy of any function of the inputs.

  It is the entropy of the labels of equal inputs, in nats.

  Args:
    inputs: float[n, ...].
    labels: int[n].
    classes: Number of classes.

  Raises:
    ValueError: If shapes, labels or numbers are wrong.

  Example:
    >>> least_loss([[1.0], [2.0]], [0, 1], 2)
    0.0
  """
  given = labelled.labels(labels, classes)
  points = labelled.inputs(inputs, len(given)).reshape(len(given), -1)
  same = np.unique(points, axis=0, return_inverse=True)[1].reshape(-1)
  counts = np.zeros((int(np.max(same)) + 1, classes))
  np.add.at(counts, (same, given), 1)
  shares = counts / counts.sum(1, keepdims=True)
  logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
  return float(-(counts * logs).sum() / len(given)) + 0.0
