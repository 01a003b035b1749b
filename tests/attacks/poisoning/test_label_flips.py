"""Wrong labels: as many as asked for, of whom they should be."""

import jax
import numpy as np
import pytest

from keyjax.attacks.poisoning import label_flips

RNG = jax.random.key(3)
LABELS = np.arange(600) % 5


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_a_share_of_the_labels_is_another(share: float) -> None:
  found = label_flips.at_random(LABELS, share, 5, rng=RNG)
  assert found.flipped.sum() == round(share * 600)
  np.testing.assert_array_equal(found.flipped, found.label != LABELS)
  assert found.label.dtype == np.int32 and set(found.label) <= set(range(5))
  again = label_flips.at_random(LABELS, share, 5, rng=RNG)
  np.testing.assert_array_equal(again.label, found.label)


def test_every_other_label_is_as_likely() -> None:
  found = label_flips.at_random(LABELS, 1.0, 5, rng=RNG)
  shift = (found.label - LABELS) % 5
  counts = np.bincount(shift, minlength=5)
  assert counts[0] == 0 and counts[1:].min() > 110 and counts[1:].max() < 190


def test_only_the_pair_is_touched() -> None:
  found = label_flips.of_pair(LABELS, 0.25, 5, source=2, target=4, rng=RNG)
  assert found.flipped.sum() == 30
  assert (LABELS[found.flipped] == 2).all()
  assert (found.label[found.flipped] == 4).all()


@pytest.mark.parametrize(
  ("labels", "share", "message"),
  [
    ([0, 5], 0.5, "labels range from 0 to 5: there are the classes 0 to 4"),
    ([-1, 0], 0.5, "labels range from -1"),
    ([], 0.5, "labels are"),
    ([[0]], 0.5, "labels are"),
    ([0.5], 0.5, "labels are"),
    ([0], 1.5, "share=1.5"),
    ([0], float("nan"), "share=nan"),
  ],
)
def test_bad_labels_are_refused(labels, share, message) -> None:
  with pytest.raises(ValueError, match=message):
    label_flips.at_random(labels, share, 5, rng=RNG)


@pytest.mark.parametrize(
  ("source", "target", "message"),
  [
    (1, 1, "two classes"),
    (3, 0, "source=3: the class has no examples"),
    (5, 0, "source=5: there are the classes 0 to 4"),
    (0, -1, "target=-1"),
  ],
)
def test_bad_pairs_are_refused(source, target, message) -> None:
  with pytest.raises(ValueError, match=message):
    label_flips.of_pair(
      [0, 1, 2], 0.5, 5, source=source, target=target, rng=RNG
    )
  with pytest.raises(ValueError, match="classes=1"):
    label_flips.at_random([0], 0.5, 1, rng=RNG)
