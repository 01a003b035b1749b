"""Wrong labels: of examples at random, or of one class as another.

Needs: writing labels of the training data. Cost: none.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from keyjax import labelled
from keyjax.arguments import whole_number


class Flipped(NamedTuple):
  """Labels, some of which are wrong.

  Attributes:
    label: int32[n], labels after the attack.
    flipped: bool[n], whether a label is not what it was.
  """

  label: np.ndarray
  flipped: np.ndarray


def at_random(
  labels: Any, share: float, classes: int, *, rng: jax.Array
) -> Flipped:
  """Give a share of the examples another label, every other one as likely.

  Args:
    labels: int[n].
    share: Share of the examples, rounded to a whole number of them.
    classes: Number of classes, at least 2.
    rng: JAX PRNG key.

  Raises:
    ValueError: If labels are out of range, the share is none, or there are
      fewer than 2 classes.

  Example:
    >>> found = at_random([0, 1, 2, 0], 0.5, 3, rng=jax.random.key(0))
    >>> int(found.flipped.sum()), (found.label != [0, 1, 2, 0]).sum()
    (2, np.int64(2))
  """
  classes = whole_number(classes, "classes", least=2)
  before = labelled.labels(labels, classes)
  count = round(labelled.share(share) * len(before))
  chosen, drawn = jax.random.split(rng)
  rows = np.asarray(jax.random.permutation(chosen, len(before)))[:count]
  shift = np.asarray(jax.random.randint(drawn, (count,), 1, classes, "int32"))
  return _with(before, rows, (before[rows] + shift) % classes)


def of_pair(
  labels: Any,
  share: float,
  classes: int,
  *,
  source: int,
  target: int,
  rng: jax.Array,
) -> Flipped:
  """Give a share of one class the label of another.

  Args:
    labels: int[n].
    share: Share of the examples of the class `source`.
    classes: Number of classes.
    source: Class whose examples are mislabelled.
    target: Class that they get.
    rng: JAX PRNG key.

  Raises:
    ValueError: If labels or classes are out of range, the two classes are one,
      or the class has no examples.

  Example:
    >>> found = of_pair(
    ...   [0, 0, 1], 0.5, 2, source=0, target=1, rng=jax.random.key(0)
    ... )
    >>> int(found.flipped.sum()), int(found.label[2])
    (1, 1)
  """
  before = labelled.labels(labels, classes)
  source = labelled.class_number(source, classes, "source")
  target = labelled.class_number(target, classes, "target")
  if source == target:
    raise ValueError(f"source={source} and target={target}: two classes")
  own = np.flatnonzero(before == source)
  if not len(own):
    raise ValueError(f"source={source}: the class has no examples")
  count = round(labelled.share(share) * len(own))
  order = np.asarray(jax.random.permutation(rng, len(own)))
  return _with(before, own[order[:count]], np.int32(target))


def _with(before: np.ndarray, rows: np.ndarray, new: Any) -> Flipped:
  after = before.copy()
  after[rows] = new
  return Flipped(after, after != before)
