"""Scenes: deterministic, labels that fit, and batches that pass them on."""

import numpy as np
import pytest

from experiments import data
from experiments.data.sets import scenes

KIND = scenes.KINDS["digit_scene"]


def load(task: str, **options: int) -> data.Dataset:
  sizes = {"num_train": 12, "num_test": 5} | options
  return data.load(f"digit_scene_{task}", **sizes)


def test_masks_and_boxes_are_of_one_scene() -> None:
  masks, boxes = load("masks"), load("boxes")
  np.testing.assert_array_equal(masks.train_images, boxes.train_images)
  assert masks.train_images.shape == (12, 32, 32, 1)
  assert masks.train_labels.dtype == np.uint8
  assert boxes.train_labels.shape == (12, 4, 5)
  assert (masks.task, boxes.task) == ("masks", "boxes")
  assert masks.num_classes == 11 and masks.class_names[0] == "ground"
  assert boxes.num_classes == 10
  for mask, objects in zip(masks.train_labels, boxes.train_labels, strict=True):
    real = objects[objects[:, 4] >= 0]
    assert 1 <= len(real) <= 4
    assert set(np.unique(mask)) == {0, *(real[:, 4] + 1)}
    covered = np.zeros_like(mask, bool)
    for y0, x0, y1, x1, digit in real:
      at = (slice(int(y0), int(y1)), slice(int(x0), int(x1)))
      covered[at] = True
      # Ink of the digit reaches the sides of its box, unless one overlaps it.
      inside = mask[at] == digit + 1
      assert inside.mean() > 0.2 and min(inside.shape) >= 2
    assert not mask[~covered].any()


def test_scenes_are_always_the_same() -> None:
  first = load("masks", num_train=20)
  few = load("masks", num_train=3)
  np.testing.assert_array_equal(first.train_images[:3], few.train_images)
  np.testing.assert_array_equal(first.train_labels[:3], few.train_labels)
  assert not np.array_equal(first.train_images[:5], first.test_images)


def test_digits_overlap_little() -> None:
  boxes = load("boxes", num_train=40).train_labels
  most = 0.0
  for objects in boxes:
    real = [tuple(map(int, x[:4])) for x in objects if x[4] >= 0]
    for i, a in enumerate(real):
      most = max(most, *(scenes._covered(a, b) for b in real[:i]), 0.0)
  assert 0 < most <= 0.1


@pytest.mark.parametrize("task", ["masks", "boxes"])
def test_batches_pass_labels_on(task: str) -> None:
  dataset = load(task)
  batch = data.batches(dataset, 4, seed=0)[1]
  assert batch["label"].shape == (4, *dataset.train_labels.shape[1:])
  at = [
    int(np.flatnonzero((dataset.train_images == x).all((1, 2, 3)))[0])
    for x in batch["image"]
  ]
  np.testing.assert_array_equal(batch["label"], dataset.train_labels[at])
  *_, last = data.eval_batches(dataset.test_images, dataset.test_labels, 3)
  assert last["label"].shape == (3, *dataset.test_labels.shape[1:])
  assert last["mask"].tolist() == [True, True, False]
  assert dataset.labels_per_example == 1 and not dataset.is_text


def test_sizes_out_of_range() -> None:
  with pytest.raises(ValueError, match="1 <= num_test=0"):
    load("masks", num_test=0)


def test_scenes_of_mnist_need_mnist(tmp_path) -> None:
  with pytest.raises(data.MissingDataError, match="mnist"):
    data.load("scene_masks", data_dir=tmp_path)
