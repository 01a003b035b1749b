"""Confident learning: the paper's counts, and wrong labels that are found."""

import jax
import numpy as np
import pytest
import sklearn.linear_model

from keyjax.attacks.poisoning import label_flips
from keyjax.defenses.poisoning import confident_learning, neighbours
from tests.attacks import toys


def test_the_joint_of_ideal_probabilities_counts_the_wrong_labels() -> None:
  truth = np.repeat([0, 1, 2], 100)
  labels = truth.copy()
  labels[:30], labels[100:110] = 1, 2
  probs = np.eye(3)[truth]
  found = confident_learning.joint(labels, probs)
  assert found.tolist() == [[70, 0, 0], [30, 90, 0], [0, 10, 100]]
  flagged = confident_learning.flags(labels, probs)
  np.testing.assert_array_equal(flagged, labels != truth)


def test_a_class_above_its_own_threshold_alone_counts() -> None:
  # The mean probability of class 1 where it is the label is 0.6: 0.55 is less.
  probs = [[0.9, 0.1], [0.45, 0.55], [0.4, 0.6], [0.4, 0.6]]
  assert confident_learning.thresholds([0, 0, 1, 1], probs).tolist() == (
    pytest.approx([0.675, 0.6])
  )
  assert not confident_learning.flags([0, 0, 1, 1], probs).any()


def test_flips_are_found_by_models_of_other_folds() -> None:
  images, labels = toys.digits()[0]
  points = images.reshape(len(images), -1)
  flips = label_flips.at_random(labels, 0.1, 10, rng=jax.random.key(0))
  seen = []

  def fit(train: np.ndarray, held: np.ndarray) -> np.ndarray:
    assert not set(train) & set(held)
    seen.extend(held)
    model = sklearn.linear_model.LogisticRegression(C=0.1, max_iter=200)
    model.fit(points[train], flips.label[train])
    return model.predict_proba(points[held])

  probs = confident_learning.out_of_fold(flips.label, 10, fit, folds=3)
  assert sorted(seen) == list(range(len(labels)))
  flagged = confident_learning.flags(flips.label, probs)
  found = neighbours.detection(flagged, flips.flipped)
  assert found.recall > 0.8 and found.precision > 0.8


@pytest.mark.parametrize(
  ("labels", "probs", "message"),
  [
    ([0, 1], np.ones((2, 2)), "sum of 1"),
    ([0, 1], [[1.5, -0.5], [0, 1]], "from 0 to 1"),
    ([0, 1], [[np.nan, 1], [0, 1]], "from 0 to 1"),
    ([0, 1], np.full((3, 2), 0.5), r"expected \[2, 2\]"),
    ([0, 1], np.ones(2), "pass float"),
    ([0, 0], np.full((2, 2), 0.5), "class 1 has 0 examples"),
    ([0, 2], np.full((2, 2), 0.5), "labels range from 0 to 2"),
  ],
)
def test_bad_probabilities_are_refused(labels, probs, message) -> None:
  with pytest.raises(ValueError, match=message):
    confident_learning.flags(labels, probs)


def test_a_class_needs_an_example_for_each_fold() -> None:
  with pytest.raises(ValueError, match="class 1 has 1 examples: at least 2"):
    confident_learning.out_of_fold([0, 0, 1], 2, lambda a, b: None, folds=2)
