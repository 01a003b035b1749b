"""Bursts in a stream, classes that are thinned, and contradictions."""

import jax
import numpy as np
import pytest

from keyjax.attacks.poisoning import bias, contradictions, stream

RNG = jax.random.key(0)
LABELS = np.arange(60).reshape(20, 3) % 4


def test_a_burst_is_between_its_steps() -> None:
  found = stream.burst(LABELS, 4, share=0.5, start=4, stop=12, rng=RNG)
  np.testing.assert_array_equal(found.flipped, found.label != LABELS)
  assert found.flipped.sum() == 12 and found.flipped[4:12].sum() == 12
  shift = (found.label - LABELS)[found.flipped] % 4
  assert (shift == 1).all()
  apart = stream.burst(
    LABELS, 4, share=0.5, start=4, stop=12, together=False, rng=RNG
  )
  np.testing.assert_array_equal(apart.flipped, found.flipped)
  assert len(set((apart.label - LABELS)[apart.flipped] % 4)) == 3


@pytest.mark.parametrize(
  ("labels", "start", "stop", "message"),
  [
    (LABELS, 5, 5, "start=5, stop=5"),
    (LABELS, 0, 21, "steps from 0 to 20"),
    (LABELS, -1, 2, "start=-1"),
    (LABELS[0], 0, 1, r"pass int\[steps, batch\]"),
    (LABELS + 1, 0, 1, "labels range from 1 to 4"),
  ],
)
def test_a_bad_burst_is_refused(labels, start, stop, message) -> None:
  with pytest.raises(ValueError, match=message):
    stream.burst(labels, 4, share=0.5, start=start, stop=stop, rng=RNG)


def test_a_class_is_thinned_and_no_other() -> None:
  labels = LABELS.reshape(-1)
  kept = labels[bias.thin(labels, 4, label=2, left=3, rng=RNG)]
  assert np.bincount(kept).tolist() == [15, 15, 3, 15]


def test_recall_is_of_each_class() -> None:
  found = bias.recalls([0, 0, 1, 2], [0, 1, 1, 2], 4)
  np.testing.assert_array_equal(found, [1, 0.5, 1, np.nan])


@pytest.mark.parametrize(
  ("label", "left", "message"),
  [(2, 16, "class 2 has 15"), (4, 1, "label=4"), (0, -1, "left=-1")],
)
def test_bad_thinning_is_refused(label, left, message) -> None:
  with pytest.raises(ValueError, match=message):
    bias.thin(LABELS.reshape(-1), 4, label=label, left=left, rng=RNG)
  with pytest.raises(ValueError, match="no example stays"):
    bias.thin([1, 1], 2, label=1, left=0, rng=RNG)
  with pytest.raises(ValueError, match="predicted are 1"):
    bias.recalls([0], [0, 1], 2)


def test_no_model_fits_contradictions() -> None:
  inputs = np.random.default_rng(0).normal(size=(60, 3))
  labels = LABELS.reshape(-1)
  assert contradictions.least_loss(inputs, labels, 4) == 0
  found = contradictions.contradict(inputs, labels, 0.5, 4, rng=RNG)
  assert len(found.label) == 90
  # Sixty of ninety examples are in pairs: log 2 each.
  bound = contradictions.least_loss(found.image, found.label, 4)
  assert bound == pytest.approx(2 / 3 * np.log(2))
  own = {x.tobytes(): y for x, y in zip(found.image, labels, strict=False)}
  for x, y in zip(found.image[60:], found.label[60:], strict=True):
    assert own[x.tobytes()] != y


def test_the_bound_is_that_of_the_best_function() -> None:
  inputs = np.repeat([[0.0], [1.0]], [4, 2], axis=0)
  labels = [0, 0, 0, 1, 1, 1]
  best = np.asarray([0.75, 0.75, 0.75, 0.25, 1.0, 1.0])
  assert contradictions.least_loss(inputs, labels, 2) == pytest.approx(
    -np.log(best).mean()
  )
  with pytest.raises(ValueError, match="inputs are 2"):
    contradictions.least_loss(inputs[:2], labels, 2)
