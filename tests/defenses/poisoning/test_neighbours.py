"""Labels that neighbours contradict: what is found, and what hides."""

import jax
import numpy as np
import pytest
import sklearn.neighbors

from keyjax.attacks.poisoning import label_flips
from keyjax.defenses.poisoning import neighbours
from tests.attacks import toys


def test_neighbours_are_those_of_scikit_learn() -> None:
  images, labels = toys.digits()[0]
  points = images[:200].reshape(200, -1)
  tree = sklearn.neighbors.NearestNeighbors(n_neighbors=6).fit(points)
  near = tree.kneighbors(return_distance=False)
  want = (labels[near][..., None] == np.arange(10)).sum(1)
  found = neighbours.votes(images[:200], labels[:200], 10, k=6, at_once=64)
  # Equally far neighbours may differ.
  assert (found == want).all(1).mean() > 0.98
  assert (found.sum(1) == 6).all()


def test_flips_at_random_are_found() -> None:
  images, labels = toys.digits()[0]
  flips = label_flips.at_random(labels, 0.1, 10, rng=jax.random.key(0))
  found = neighbours.detection(
    neighbours.flags(images, flips.label, 10), flips.flipped
  )
  assert found.recall > 0.95 and found.precision > 0.8
  assert found.false_alarms < 0.05


def test_poison_in_a_cluster_hides() -> None:
  rng = np.random.default_rng(0)
  a, b = rng.normal(0, 1, (100, 2)), rng.normal(8, 1, (100, 2))
  poison = rng.normal((4, -4), 0.1, (20, 2))
  labels = np.repeat([0, 1, 1], [100, 100, 20])
  flagged = neighbours.flags(np.concatenate([a, b, poison]), labels, 2)
  assert not flagged[200:].any()


@pytest.mark.parametrize(
  ("inputs", "labels", "k", "message"),
  [
    (np.ones((3, 2)), [0, 1, 2], 1, "labels range from 0 to 2"),
    (np.ones((3, 2)), [0, 1], 1, "inputs are 3, and there are 2 labels"),
    (np.ones((2, 2)), [0, 1], 2, "k=2: below the number of examples, 2"),
    (np.ones((2, 2)), [0, 1], 0, "k=0"),
    ([[1.0], [np.nan]], [0, 1], 1, r"inputs\[1\] is not finite"),
    (np.ones((0, 2)), [], 1, "labels are"),
  ],
)
def test_bad_input_is_refused(inputs, labels, k, message) -> None:
  with pytest.raises(ValueError, match=message):
    neighbours.votes(inputs, labels, 2, k)


def test_nothing_found_is_nan() -> None:
  found = neighbours.detection([False], [False])
  assert np.isnan(found.recall) and np.isnan(found.precision)
  with pytest.raises(ValueError, match="shapes"):
    neighbours.detection([True], [True, False])
