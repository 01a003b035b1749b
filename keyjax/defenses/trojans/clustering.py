"""Activation clustering: a poisoned class falls into two groups.

Guarantees:
  None. A class that has two kinds of images falls into two groups as well: a
  false alarm.

Known breaks:
  Poisons that are few, or near the class of their label, form no group of their
  own. Half of a class being poison, no group is small.

Reference:
  Bryant Chen, Wilka Carvalho, Nathalie Baracaldo, Heiko Ludwig, Benjamin
  Edwards, Taesung Lee, Ian Molloy and Biplav Srivastava, "Detecting backdoor
  attacks on deep neural networks by activation clustering", SafeAI 2019.
"""

import warnings
from typing import Any, NamedTuple

import numpy as np

from keyjax.arguments import whole_number
from keyjax.attacks.privacy import signals
from keyjax.defenses.trojans.checks import check_activations
from keyjax.defenses.trojans.threads import one_thread
from keyjax.extras import library

_LEAST = 4  # Examples of a class that falls into two groups.
_MOST = 2000  # Examples of a class for its silhouette, which is quadratic.


class Clusters(NamedTuple):
  """Each class in two groups.

  Attributes:
    small: bool[n], the examples in the smaller group of their class.
    classes: int64[k], the classes.
    share: float64[k], the share of each class that is in its smaller group.
    silhouette: float64[k], how well the groups are separated, from -1 to 1.
  """

  small: np.ndarray
  classes: np.ndarray
  share: np.ndarray
  silhouette: np.ndarray


def clusters(
  activations: Any, labels: Any, *, components: int = 10, seed: int = 0
) -> Clusters:
  """Return the two groups of each class, by independent components and 2-means.

  Args:
    activations: float[n, d], of the layer before the logits.
    labels: int[n], the labels of the training data; each class that occurs has
      at least 4 examples.
    components: Number of independent components; fewer where the activations of
      a class have fewer dimensions.
    seed: Seed of both.

  Returns:
    A `Clusters`.

  Raises:
    ValueError: If a shape or value is wrong, or a class has too few examples.
    KeyringError: If scikit-learn is not installed.

  Example:
    >>> draw = np.random.default_rng(0).normal(size=(40, 3))
    >>> draw[:8] += 9
    >>> found = clusters(draw, np.zeros(40, int))
    >>> np.flatnonzero(found.small).tolist(), found.share.tolist()
    ([0, 1, 2, 3, 4, 5, 6, 7], [0.2])
  """
  x, y = check_activations(activations, labels, _LEAST)
  components = whole_number(components, "components")
  classes = np.unique(y)
  small = np.zeros(len(x), bool)
  shares, silhouettes = [], []
  for label in classes:
    rows = np.flatnonzero(y == label)
    with one_thread():
      group, silhouette = _halves(_reduced(x[rows], components, seed), seed)
    small[rows] = group
    shares.append(group.mean())
    silhouettes.append(silhouette)
  return Clusters(small, classes, np.asarray(shares), np.asarray(silhouettes))


def flagged(
  found: Clusters,
  labels: Any,
  *,
  share: float = 0.35,
  silhouette: float = 0.12,
) -> np.ndarray:
  """Return the examples that are taken for poison.

  Those in the smaller group of a class where it is small and well separated.

  Args:
    found: From `clusters`.
    labels: int[n], the same labels.
    share: Share of the class below which a group is small.
    silhouette: Silhouette above which groups are separated; the paper sees 0.10
      to 0.15 between clean and poisoned classes.

  Returns:
    bool[n].

  Raises:
    ValueError: If the labels are others, or a share is out of range.
  """
  y = signals.check_labels(labels, (len(found.small), np.iinfo(np.int32).max))
  if not np.isin(y, found.classes).all():
    raise ValueError("labels have classes that the clusters do not have")
  share = signals.check_share(share, "share")
  wrong = (found.share < share) & (found.silhouette > silhouette)
  return np.asarray(found.small & np.isin(y, found.classes[wrong]))


def _reduced(x: np.ndarray, components: int, seed: int) -> np.ndarray:
  """Return independent components of one class, float64[n, at most k]."""
  rank = np.linalg.matrix_rank(x - x.mean(0))
  count = min(components, int(rank))
  if not count:
    return np.zeros((len(x), 1))  # All are equal.
  # It whitens the directions of the most variance, and looks at no others.
  made = library("sklearn.decomposition", "poisoning")
  ica = made.FastICA(
    count, whiten="unit-variance", random_state=seed, max_iter=500, tol=1e-3
  )
  with warnings.catch_warnings():
    # Components that did not settle are a basis of the same space.
    warnings.simplefilter("ignore")
    return np.asarray(ica.fit_transform(x))


def _halves(x: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
  """Return which examples are in the smaller group, and the silhouette."""
  cluster = library("sklearn.cluster", "poisoning")
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Equal examples have one group.
    group = cluster.KMeans(2, n_init=10, random_state=seed).fit_predict(x)
  group = group == (group.sum() * 2 <= len(group))
  if group.all() or not group.any():
    return np.zeros(len(x), bool), 0.0
  metrics = library("sklearn.metrics", "poisoning")
  size = min(_MOST, len(x))
  return group, float(
    metrics.silhouette_score(x, group, sample_size=size, random_state=seed)
  )
