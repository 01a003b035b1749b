"""Images, text and labels: read, kept in memory, batched by step.

Nothing needs TensorFlow: folders that TFDS prepared as `array_record` are read
through `as_data_source`, decoded once, and kept as `uint8` arrays; `python -m
experiments.prepare NAME` makes such a folder. The digits come with scikit-learn
and need no folder. ImageNet is read batch by batch. Texts are characters;
`fake` is random numbers. Each data set is one file in `sets/`.

  >>> digits = load("digits")
  >>> digits.train_images.shape, digits.test_images.shape
  ((1437, 8, 8, 1), (360, 8, 8, 1))
  >>> batch = batches(digits, batch_size=32, seed=0)[1000]
  >>> batch["image"].shape, batch["label"].dtype
  ((32, 8, 8, 1), dtype('int32'))
"""

from experiments.data.dataset import Dataset, pixel_statistics
from experiments.data.folders import MissingDataError, find_data_dir
from experiments.data.guarded import of_config as guard_of
from experiments.data.guarded import refuse as refuse_guard
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
from experiments.data.registry import from_config, load, names

__all__ = [
  "Batch",
  "Dataset",
  "MissingDataError",
  "augment",
  "batches",
  "cutout",
  "eval_batches",
  "find_data_dir",
  "from_config",
  "guard_of",
  "iterate",
  "load",
  "mixup",
  "names",
  "pixel_statistics",
  "prefetch",
  "refuse_guard",
  "steps_per_epoch",
  "stream",
  "to_float",
  "to_input",
]
