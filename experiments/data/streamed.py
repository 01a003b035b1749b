"""Data sets that do not fit in memory: a sample of them, and the way in."""

import os

from experiments.data import folders, pipeline
from experiments.data.datasets import Streamed

NAMES = ("imagenet2012",)
# Of the training images, as everybody uses them.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SAMPLE = 1000  # training images for keys that look at data
_NUM_TEST = 5000  # 750 MB at 224 pixels


def load(
  name: str,
  image_size: int,
  data_dir: str | os.PathLike[str] | None = None,
  num_train: int | None = None,
  num_test: int | None = None,
) -> Streamed:
  """Opens a data set that `batches` reads and decodes as it goes.

  Args:
    name: `imagenet2012`.
    image_size: side of the square images.
    data_dir: see `find_data_dir`.
    num_train: not to be chosen: all images are read.
    num_test: how many validation images, centre crops of a fixed random
      choice, are kept in memory; 5,000 by default.

  Raises:
    ValueError: `num_train` is given, or a size is out of range.
    MissingDataError: the data set is not in the folder.
  """
  if num_train is not None:
    raise ValueError(f"num_train={num_train}: {name} is read whole, leave it 0")
  folder = folders.find(name, data_dir)
  info = folders.open_folder(folder).info
  counts = {s: info.splits[s].num_examples for s in ("train", "validation")}
  sizes = {
    "train": min(_SAMPLE, counts["train"]),
    "validation": num_test or min(_NUM_TEST, counts["validation"]),
  }
  train, test = (
    pipeline.stream(name, split, size, 0, image_size, data_dir)[0]
    for split, size in sizes.items()
  )
  labels = info.features["label"]
  return Streamed(
    name=name,
    train_images=train["image"],
    train_labels=train["label"],
    test_images=test["image"],
    test_labels=test["label"],
    num_classes=labels.num_classes,
    class_names=tuple(labels.names),
    mean=_MEAN,
    std=_STD,
    source=folders.source_text(name, folder, info),
    length=counts["train"],
    image_size=image_size,
    data_dir=data_dir,
  )
