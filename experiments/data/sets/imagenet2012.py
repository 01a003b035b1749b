"""ImageNet, read and decoded batch by batch: it does not fit in memory."""

from experiments.data import folders, pipeline, prepared
from experiments.data.dataset import Streamed
from experiments.data.registry import DATASETS, Entry, Options, Preparation

_NAME = "imagenet2012"
# Statistics of the training images that all publications use.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_SAMPLE = 1000  # Training images for keys that look at data.
_NUM_TEST = 5000  # 750 MB at 224 pixels.


def _load(options: Options) -> Streamed:
  """Open the data set, and read a sample of it into memory.

  Raises:
    ValueError: If `num_train` is given, or a size is out of range.
    MissingDataError: If the data set is not in the folder.
  """
  if options.num_train is not None:
    raise ValueError(
      f"num_train={options.num_train}: {_NAME} is read whole, leave it 0"
    )
  folder = folders.find(_NAME, options.data_dir)
  builder = folders.open_folder(folder, options.guard)
  info = builder.info
  counts = {s: info.splits[s].num_examples for s in ("train", "validation")}
  sizes = {
    "train": min(_SAMPLE, counts["train"]),
    # Centre crops of a fixed random choice.
    "validation": options.num_test or min(_NUM_TEST, counts["validation"]),
  }
  train, test = (
    pipeline.decoded(
      builder,
      split,
      batch_size=size,
      seed=0,
      image_size=options.image_size,
    )[0]
    for split, size in sizes.items()
  )
  labels = info.features["label"]
  return Streamed(
    name=_NAME,
    train_images=train["image"],
    train_labels=train["label"],
    test_images=test["image"],
    test_labels=test["label"],
    num_classes=labels.num_classes,
    class_names=tuple(labels.names),
    mean=_MEAN,
    std=_STD,
    source=prepared.source_text(_NAME, info, caveat=""),
    length=counts["train"],
    image_size=options.image_size,
    builder=builder,
  )


DATASETS.add(
  _NAME,
  Entry(
    _load,
    Preparation(
      readers=(
        "datasets.imagenet2012.imagenet2012_dataset_builder",
        "datasets.imagenet2012.imagenet_common",
      ),
      archives=("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"),
      website="https://image-net.org",
    ),
  ),
)
