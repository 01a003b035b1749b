"""Images, text and labels: read, kept in memory, batched by step.

Everything goes without TensorFlow: folders that TFDS prepared as
`array_record` are read through `as_data_source`, decoded once, and kept as
`uint8` arrays; `python -m experiments.prepare NAME` makes such a folder. The
digits come with scikit-learn and need no folder. ImageNet is read as it goes.
Texts are characters; `fake` is random numbers.

  >>> digits = load("digits")
  >>> digits.train_images.shape, digits.test_images.shape
  ((1437, 8, 8, 1), (360, 8, 8, 1))
  >>> batch = batches(digits, batch_size=32, seed=0)[1000]
  >>> batch["image"].shape, batch["label"].dtype
  ((32, 8, 8, 1), dtype('int32'))
"""

from experiments.data.datasets import (
  CIFAR10_MEAN,
  CIFAR10_STD,
  Dataset,
  load,
  pixel_statistics,
)
from experiments.data.folders import MissingDataError, find_data_dir
from experiments.data.images import (
  augment,
  cutout,
  mixup,
  to_float,
  to_input,
)
from experiments.data.pipeline import (
  Batch,
  batches,
  eval_batches,
  iterate,
  prefetch,
  steps_per_epoch,
  stream,
)
from experiments.data.sources import NAMES, from_config

__all__ = [
  "CIFAR10_MEAN",
  "CIFAR10_STD",
  "NAMES",
  "Batch",
  "Dataset",
  "MissingDataError",
  "augment",
  "batches",
  "cutout",
  "eval_batches",
  "find_data_dir",
  "from_config",
  "iterate",
  "load",
  "mixup",
  "pixel_statistics",
  "prefetch",
  "steps_per_epoch",
  "stream",
  "to_float",
  "to_input",
]
