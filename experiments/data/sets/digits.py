"""The digits that come with scikit-learn."""

import numpy as np

from experiments.data.dataset import Dataset, pixel_statistics, subset
from experiments.data.registry import DATASETS, Entry, Options


def _load(options: Options) -> Dataset:
  # Here, because the import takes a second that no other data set needs.
  from sklearn import datasets, model_selection

  digits = datasets.load_digits()
  # float[n, 8, 8] in 0 ... 16 -> uint8[n, 8, 8, 1] in 0 ... 255
  images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
  labels = digits.target.astype(np.int32)
  train, test = model_selection.train_test_split(
    np.arange(len(labels)), test_size=360, stratify=labels, random_state=0
  )
  train = train[subset(len(train), options.num_train, "num_train")]
  test = test[subset(len(test), options.num_test, "num_test")]
  mean, std = pixel_statistics(images[train])
  return Dataset(
    name="digits",
    train_images=images[train],
    train_labels=labels[train],
    test_images=images[test],
    test_labels=labels[test],
    num_classes=10,
    class_names=None,
    mean=mean,
    std=std,
    source=(
      "scikit-learn's load_digits: the 1,797 test images of UCI's "
      "handwritten digits, split here"
    ),
  )


DATASETS.add("digits", Entry(_load, origin="comes with scikit-learn"))
