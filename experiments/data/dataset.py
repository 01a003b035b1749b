"""What a data set is."""

import dataclasses
from typing import Any

import numpy as np

Array = np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """A data set in memory: images, or tokens of a text.

  Attributes:
    name: Name that `load` was called with.
    train_images: `uint8[n, h, w, c]`; of a text its tokens, `[n, t]`, `uint8`
      if they are characters, else `uint16` or `int32`.
    train_labels: `int32[n]`, classes; `int32[n, t]`, the next tokens;
      `uint8[n, h, w]`, masks; `float32[n, k, 5]`, boxes; or `float32[n, 0]`,
      which `experiments.protection.weights.answered` replaces.
    test_images: `uint8[m, h, w, c]`, or tokens `[m, t]`.
    test_labels: As `train_labels`.
    num_classes: Number of classes; of masks, with the background; of a text,
      number of different tokens.
    class_names: Names of the classes, where they are more than numbers.
    mean: Mean per channel of training pixels in [0, 1]; of a text, empty.
    std: Standard deviation per channel; of a text, empty.
    source: Where the data came from and how they differ from the published
      ones; belongs next to every figure.
    task: Name of the task in `keyjax.tasks`.
    text_unit: What has a label in a text: `characters` or `tokens`.
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
  task: str = dataclasses.field(default="classes", kw_only=True)
  text_unit: str = dataclasses.field(default="characters", kw_only=True)

  @property
  def is_text(self) -> bool:
    """Whether examples are sequences of tokens, with a label for each token."""
    return self.task == "tokens"

  @property
  def unit(self) -> str:
    """What has a label: `images`, `characters`, `tokens` or `pairs`."""
    if self.task == "pairs":
      return "pairs"
    return self.text_unit if self.is_text else "images"

  @property
  def labels_per_example(self) -> int:
    """Number of labels of an example: one, unless it is a text."""
    return self.train_labels[0].size if self.is_text else 1

  @property
  def num_examples(self) -> int:
    """Number of training examples."""
    return len(self.train_labels)


@dataclasses.dataclass(frozen=True, eq=False)
class Streamed(Dataset):
  """A data set of which `train_images` are a sample: see `batches`.

  Attributes:
    length: Number of training images.
    image_size: Side of the images.
    builder: What `experiments.data.folders.open_folder` returned.
  """

  length: int
  image_size: int
  builder: Any

  @property
  def num_examples(self) -> int:
    """Number of training examples."""
    return self.length


def pixel_statistics(
  images: Array,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Measure the mean and standard deviation of every channel.

  Args:
    images: `uint8[n, h, w, c]`.

  Returns:
    Both, per channel, on the scale where a pixel is in [0, 1]. A channel that
    never changes gets a deviation of one grey level, to divide by.
  """
  levels = np.arange(256) / 255
  mean = []
  std = []
  for channel in np.moveaxis(images, -1, 0):  # [n, h, w, c] -> c of [n, h, w]
    # A histogram: exact, and no float copy of the whole data set.
    share = np.bincount(channel.ravel(), minlength=256) / channel.size
    mean.append(float(share @ levels))
    std.append(float(np.sqrt(share @ (levels - mean[-1]) ** 2)))
  return tuple(mean), tuple(max(s, 1 / 255) for s in std)


def subset(total: int, size: int | None, field: str) -> Array:
  """Return the indices of a fixed random subset, nested in larger ones.

  Args:
    total: Number of examples.
    size: Size of the subset; None for all examples.
    field: Field of a config that gives the size, for the error message.

  Returns:
    `int[size]`, sorted.

  Raises:
    ValueError: If the size is out of range.
  """
  if size is None or size == total:
    return np.arange(total)
  if not 1 <= size <= total:
    raise ValueError(f"Expected 1 <= {field}={size} <= {total}.")
  return np.sort(np.random.default_rng(0).permutation(total)[:size])
