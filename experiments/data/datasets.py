"""Data sets in memory, decoded once."""

import dataclasses
import os

import numpy as np
from etils import epath

from experiments.data import cache, folders

Array = np.ndarray

# What the published experiments normalise with (AprilPyone's recipe).
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2471, 0.2435, 0.2616)
_CHUNK = 1024  # decoded records held as dictionaries at a time


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """A data set in memory: images, or characters of a text.

  Attributes:
    name: what `load` was asked for.
    train_images: `uint8[n, h, w, c]`; of a text `uint8[n, t]`, tokens.
    train_labels: `int32[n]`; of a text `int32[n, t]`, the next tokens.
    test_images: `uint8[m, h, w, c]`, or `uint8[m, t]`.
    test_labels: `int32[m]`, or `int32[m, t]`.
    num_classes: how many labels there are; of a text, how many tokens.
    class_names: their names, where they are more than numbers.
    mean: per channel, of training pixels in [0, 1]; of a text, empty.
    std: per channel, of training pixels in [0, 1]; of a text, empty.
    source: where the data came from and how they differ from the published
      ones; belongs beside every figure.
  """

  name: str
  train_images: Array
  train_labels: Array
  test_images: Array
  test_labels: Array
  num_classes: int
  class_names: tuple[str, ...] | None
  mean: tuple[float, ...]
  std: tuple[float, ...]
  source: str

  @property
  def is_text(self) -> bool:
    """Whether examples are tokens, each with a label of its own."""
    return self.train_labels.ndim == 2

  @property
  def unit(self) -> str:
    """What has a label: `images` or `characters`."""
    return "characters" if self.is_text else "images"

  @property
  def labels_per_example(self) -> int:
    """How many labels an example has."""
    return self.train_labels[0].size

  @property
  def num_examples(self) -> int:
    """How many training examples there are."""
    return len(self.train_labels)


@dataclasses.dataclass(frozen=True, eq=False)
class Streamed(Dataset):
  """A data set of which `train_images` are a sample: see `batches`.

  Attributes:
    length: how many training images there are.
    image_size: side of the images.
    data_dir: see `find_data_dir`.
  """

  length: int
  image_size: int
  data_dir: str | os.PathLike[str] | None

  @property
  def num_examples(self) -> int:
    """How many training examples there are."""
    return self.length


def load(
  name: str,
  data_dir: str | os.PathLike[str] | None = None,
  num_train: int | None = None,
  num_test: int | None = None,
) -> Dataset:
  """Loads a data set into memory; nothing is ever downloaded here.

  Args:
    name: one of `NAMES`, except imagenet2012 (see `stream`).
    data_dir: the folder of TFDS data sets; see `find_data_dir`.
    num_train: how many training images; all by default. A smaller number
      gives a fixed random subset, nested in every larger one.
    num_test: the same, for the test images.

  Returns:
    The data set.

  Raises:
    ValueError: the name is unknown, the data set does not fit in memory, or a
      size is out of range.
    MissingDataError: the data set is not in the folder.
  """
  folders.check_name(name)
  if name == "imagenet2012":
    raise ValueError(
      "imagenet2012 does not fit in memory: read it batch by batch with "
      "experiments.data.stream('imagenet2012', 'train', batch_size, seed, "
      f"image_size). load() knows {', '.join(folders.NAMES[:-1])}."
    )
  if name == "digits":
    return _digits(num_train, num_test)
  folder = folders.find(name, data_dir)
  info = folders.open_folder(folder).info
  train_images, train_labels = _decoded(folder, "train", num_train)
  test_images, test_labels = _decoded(folder, "test", num_test)
  mean, std = (
    (CIFAR10_MEAN, CIFAR10_STD)
    if name == "cifar10"
    else pixel_statistics(train_images)
  )
  names = info.features["label"].names
  numbered = names == [str(i) for i in range(len(names))]
  return Dataset(
    name=name,
    train_images=train_images,
    train_labels=train_labels,
    test_images=test_images,
    test_labels=test_labels,
    num_classes=info.features["label"].num_classes,
    class_names=None if numbered else tuple(names),
    mean=mean,
    std=std,
    source=folders.source_text(name, folder, info),
  )


def pixel_statistics(
  images: Array,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Measures the mean and standard deviation of every channel.

  Args:
    images: `uint8[n, h, w, c]`.

  Returns:
    Both, per channel, on the scale where a pixel is in [0, 1]. A channel that
    never changes gets a deviation of one grey level, to divide by.
  """
  levels = np.arange(256) / 255
  mean, std = [], []
  for channel in np.moveaxis(images, -1, 0):
    # A histogram: exact, and no float copy of the whole data set.
    share = np.bincount(channel.ravel(), minlength=256) / channel.size
    mean.append(float(share @ levels))
    std.append(float(np.sqrt(share @ (levels - mean[-1]) ** 2)))
  return tuple(mean), tuple(max(s, 1 / 255) for s in std)


def _subset(total: int, size: int | None, what: str) -> Array:
  """Returns the indices of a fixed random subset, nested in larger ones."""
  if size is None or size == total:
    return np.arange(total)
  if not 1 <= size <= total:
    raise ValueError(f"Expected 1 <= {what}={size} <= {total}.")
  return np.sort(np.random.default_rng(0).permutation(total)[:size])


def _digits(num_train: int | None, num_test: int | None) -> Dataset:
  # Here, because the import takes a second that no other data set needs.
  from sklearn import datasets, model_selection

  digits = datasets.load_digits()
  images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
  labels = digits.target.astype(np.int32)
  train, test = model_selection.train_test_split(
    np.arange(len(labels)), test_size=360, stratify=labels, random_state=0
  )
  train = train[_subset(len(train), num_train, "num_train")]
  test = test[_subset(len(test), num_test, "num_test")]
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


def _decoded(
  folder: epath.Path, split: str, size: int | None
) -> tuple[Array, Array]:
  """Returns a split's images and labels, from the cache where it has them."""
  source = folders.open_folder(folder).as_data_source(split=split)
  indices = _subset(len(source), size, f"num_{split}")
  path = cache.path_of(folder, split, len(indices))
  cached = cache.read(path)
  if cached is not None:
    return cached
  images: list[Array] = []
  labels: list[int] = []
  for start in range(0, len(indices), _CHUNK):
    records = source.__getitems__(indices[start : start + _CHUNK].tolist())
    images.append(np.stack([r["image"] for r in records]))
    labels.extend(r["label"] for r in records)
  image, label = np.concatenate(images), np.array(labels, np.int32)
  cache.write(path, image, label)
  return image, label
