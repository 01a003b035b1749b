"""Random numbers in place of data: speed can be measured anywhere."""

from collections.abc import Sequence

import numpy as np

from experiments.data.datasets import Dataset

NAME = "fake"
_NUM_TRAIN, _NUM_TEST = 1024, 128


def load(
  shape: Sequence[int],
  classes: int,
  num_train: int | None = None,
  num_test: int | None = None,
) -> Dataset:
  """Makes random images, or random text.

  Args:
    shape: of an example: height, width and channels, or one number for text.
    classes: how many labels, or characters; at most 256 characters.
    num_train: how many training examples; 1,024 by default.
    num_test: how many test examples; 128 by default.

  Returns:
    A data set; no accuracy on it means anything.

  Raises:
    ValueError: a number is out of range.

  Example:
    >>> load((32, 32, 3), classes=10, num_train=4).train_images.shape
    (4, 32, 32, 3)
  """
  text = len(shape) == 1
  if len(shape) not in (1, 3) or min(shape) < 1:
    raise ValueError(f"Expected fake.shape={tuple(shape)} as (h, w, c) or (t,)")
  if classes < 1 or (text and classes > 256):
    raise ValueError(f"fake.classes={classes}: at least 1, of text at most 256")
  rng = np.random.default_rng(0)

  def split(count: int) -> tuple[np.ndarray, np.ndarray]:
    most = classes if text else 256
    images = rng.integers(0, most, (count, *shape), np.uint8)
    labels = rng.integers(0, classes, (count, *shape) if text else count)
    return images, labels.astype(np.int32)

  train, test = split(num_train or _NUM_TRAIN), split(num_test or _NUM_TEST)
  channels = 0 if text else shape[-1]
  return Dataset(
    name=NAME,
    train_images=train[0],
    train_labels=train[1],
    test_images=test[0],
    test_labels=test[1],
    num_classes=classes,
    class_names=None,
    mean=(0.5,) * channels,
    std=(0.25,) * channels,
    source="random numbers: no accuracy here means anything",
  )
