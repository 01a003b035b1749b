"""Random numbers in place of data: speed can be measured anywhere."""

from collections.abc import Sequence

import numpy as np

from experiments.data.dataset import Dataset
from experiments.data.registry import DATASETS, Entry

_NUM_TRAIN = 1024
_NUM_TEST = 128


def make(
  shape: Sequence[int],
  classes: int,
  num_train: int | None = None,
  num_test: int | None = None,
) -> Dataset:
  """Make random images, or random text.

  Args:
    shape: Shape of an example: height, width and channels, or one number for
      text.
    classes: Number of classes, or of characters; at most 256 characters.
    num_train: Number of training examples; 1,024 by default.
    num_test: Number of test examples; 128 by default.

  Returns:
    A data set; no accuracy on it means anything.

  Raises:
    ValueError: If a number is out of range.

  Example:
    >>> make((32, 32, 3), classes=10, num_train=4).train_images.shape
    (4, 32, 32, 3)
  """
  text = len(shape) == 1
  if len(shape) not in (1, 3) or min(shape) < 1:
    raise ValueError(f"Expected fake.shape={tuple(shape)} as (h, w, c) or (t,)")
  if classes < 1 or (text and classes > 256):
    raise ValueError(
      f"fake.classes={classes}: expected at least 1, and at most 256 for text"
    )
  rng = np.random.default_rng(0)

  def split(count: int) -> tuple[np.ndarray, np.ndarray]:
    most = classes if text else 256
    images = rng.integers(0, most, (count, *shape), np.uint8)
    labels = rng.integers(0, classes, (count, *shape) if text else count)
    return images, labels.astype(np.int32)

  train = split(num_train or _NUM_TRAIN)
  test = split(num_test or _NUM_TEST)
  channels = 0 if text else shape[-1]
  return Dataset(
    name="fake",
    train_images=train[0],
    train_labels=train[1],
    test_images=test[0],
    test_labels=test[1],
    num_classes=classes,
    class_names=None,
    mean=(0.5,) * channels,
    std=(0.25,) * channels,
    source="random numbers: no accuracy here means anything",
    task="classes" if train[1].ndim == 1 else "tokens",
  )


DATASETS.add(
  "fake",
  Entry(
    lambda options: make(
      options.shape,
      options.classes,
      num_train=options.num_train,
      num_test=options.num_test,
    ),
    origin="is made of random numbers",
  ),
)
