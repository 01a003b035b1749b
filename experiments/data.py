"""Images and labels: read by TFDS, kept in memory, batched by step.

Everything goes without TensorFlow: folders that TFDS prepared as
`array_record` are read through `as_data_source`, decoded once, and kept as
`uint8` arrays; `python -m experiments.prepare NAME` makes such a folder. The
digits come with scikit-learn and need no folder.

  >>> digits = load("digits")
  >>> digits.train_images.shape, digits.test_images.shape
  ((1437, 8, 8, 1), (360, 8, 8, 1))
  >>> batch = batches(digits, batch_size=32, seed=0)[1000]
  >>> batch["image"].shape, batch["label"].dtype
  ((32, 8, 8, 1), dtype('int32'))
"""

import dataclasses
import functools
import hashlib
import logging
import os
import pathlib
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
from etils import epath

Array = np.ndarray
Batch = dict[str, Array]

# What the published experiments normalise with (AprilPyone's recipe).
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2471, 0.2435, 0.2616)

# Whether the published images are lossless, so that a JPEG copy is not them.
_LOSSLESS = {
  "mnist": True,
  "fashion_mnist": True,
  "cifar10": True,
  "svhn_cropped": True,
  "gtsrb": False,
  "imagenet2012": False,
}
NAMES = ("digits", *_LOSSLESS)
_ROOT = pathlib.Path(__file__).resolve().parents[1]
_CHUNK = 1024  # decoded records held as dictionaries at a time


class MissingDataError(FileNotFoundError):
  """A data set is not on this machine; the message says what to type."""


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """A data set in memory.

  Attributes:
    name: what `load` was asked for.
    train_images: `uint8[n, h, w, c]`.
    train_labels: `int32[n]`.
    test_images: `uint8[m, h, w, c]`.
    test_labels: `int32[m]`.
    num_classes: how many labels there are.
    class_names: their names, where they are more than numbers.
    mean: per channel, of training pixels in [0, 1].
    std: per channel, of training pixels in [0, 1].
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
  _check_name(name)
  if name == "imagenet2012":
    raise ValueError(
      "imagenet2012 does not fit in memory: read it batch by batch with "
      "experiments.data.stream('imagenet2012', 'train', batch_size, seed, "
      f"image_size). load() knows {', '.join(NAMES[:-1])}."
    )
  if name == "digits":
    return _digits(num_train, num_test)
  folder = _find(name, data_dir)
  info = _open(folder).info
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
    source=_source(name, folder, info),
  )


def find_data_dir(
  data_dir: str | os.PathLike[str] | None = None,
) -> epath.Path:
  """Returns the folder of TFDS data sets (it may be a bucket).

  Args:
    data_dir: the folder itself, or None for the first of: `KEYJAX_DATA_DIR`;
      `../shared/data/tfds` beside the checkout, where it exists; TFDS's own
      (`TFDS_DATA_DIR`, or `~/tensorflow_datasets`).

  Returns:
    The folder, which need not exist.
  """
  data_dir = data_dir or os.environ.get("KEYJAX_DATA_DIR")
  if data_dir:
    return epath.Path(data_dir).expanduser()
  shared = _ROOT.parent / "shared" / "data" / "tfds"
  if shared.is_dir():
    return epath.Path(shared)
  default = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
  return epath.Path(default).expanduser()


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


# ------------------------------------------------------------------- batches


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
  """Returns the number of whole batches in an epoch; the rest is dropped."""
  if not 1 <= batch_size <= num_examples:
    raise ValueError(
      f"Expected 1 <= batch_size={batch_size} <= {num_examples} examples."
    )
  return num_examples // batch_size


def batches(
  dataset: Dataset,
  batch_size: int,
  seed: int,
  process_index: int = 0,
  process_count: int = 1,
) -> grain.MapDataset[Batch]:
  """Returns the training batches, by step: `batches(...)[step]`.

  Step `i` is the same batch in every run, so a run resumes by going on at its
  step. Every epoch visits the examples in a new order and drops the
  remainder. The global batch does not depend on the number of processes: each
  takes its own consecutive rows of it.

  Args:
    dataset: the data.
    batch_size: rows of the global batch, over all processes.
    seed: of the order.
    process_index: whose rows to take.
    process_count: over how many processes a batch is spread.

  Returns:
    A Grain data set without end: `{"image": uint8[b, h, w, c], "label":
    int32[b]}` where `b = batch_size / process_count`. Slice it from a step on
    and call `to_iter_dataset()` to prefetch.

  Raises:
    ValueError: the batch is larger than the data set, the processes do not
      divide it, or an index or the seed is out of range.
  """
  images, labels = dataset.train_images, dataset.train_labels
  rows = _rows(len(labels), batch_size, seed, process_index, process_count)

  def batch(step: int) -> Batch:
    picked = rows(step)
    return {"image": images[picked], "label": labels[picked]}

  return grain.MapDataset.range(sys.maxsize).map(batch)


def stream(
  name: str,
  split: str,
  batch_size: int,
  seed: int,
  image_size: int,
  data_dir: str | os.PathLike[str] | None = None,
  process_index: int = 0,
  process_count: int = 1,
) -> grain.MapDataset[Batch]:
  """Returns batches of a data set that does not fit in memory, by step.

  As `batches`, but a step reads and decodes its images, so iterate with
  `to_iter_dataset(grain.ReadOptions(...))`, whose threads prepare batches
  ahead.

  Args:
    name: any of `NAMES` but digits.
    split: `train` gives random crops (8 to 100 % of the area, as Szegedy et
      al., "Going deeper with convolutions", 2015, section 6); any other, for
      instance `validation`, the centre (7/8 of the short side).
    batch_size: rows of the global batch, over all processes.
    seed: of the order and the crops.
    image_size: side of the square images.
    data_dir: see `find_data_dir`.
    process_index: whose rows to take.
    process_count: over how many processes a batch is spread.

  Returns:
    A Grain data set without end of `{"image": uint8[b, s, s, c], "label":
    int32[b]}` where `b = batch_size / process_count`.

  Raises:
    ValueError: the name is unknown, or a number is out of range.
    MissingDataError: the data set is not in the folder.
  """
  _check_name(name)
  if name == "digits":
    raise ValueError("digits is in memory: use load('digits') and batches().")
  source = _open(_find(name, data_dir)).as_data_source(split=split)
  rows = _rows(len(source), batch_size, seed, process_index, process_count)
  box = _random_box if split == "train" else _centre_box

  def batch(step: int) -> Batch:
    picked = rows(step)
    records = source.__getitems__(picked.tolist())
    images, labels = [], []
    for i, record in zip(picked, records, strict=True):
      rng = np.random.default_rng([seed, step, i])
      height, width, _ = record["image"].shape
      crop = box(height, width, rng)
      images.append(_resized(record["image"], crop, image_size))
      labels.append(record["label"])
    return {"image": np.stack(images), "label": np.array(labels, np.int32)}

  return grain.MapDataset.range(sys.maxsize).map(batch)


def eval_batches(
  images: Array, labels: Array, batch_size: int
) -> Iterator[Batch]:
  """Returns every example once, in order, in batches of one shape.

  Args:
    images: `[n, ...]`.
    labels: `[n]`.
    batch_size: rows of a batch.

  Returns:
    An iterator of `{"image": [batch_size, ...], "label": [batch_size], "mask":
    bool[batch_size]}`; the mask is False on the rows that fill up the last
    batch.

  Raises:
    ValueError: the batch size is not positive, or the lengths differ.
  """
  if batch_size < 1:
    raise ValueError(f"Expected batch_size={batch_size} >= 1.")
  if len(images) != len(labels):
    raise ValueError(f"Got {len(images)} images and {len(labels)} labels.")

  def batch(start: int) -> Batch:
    image = images[start : start + batch_size]
    label = labels[start : start + batch_size]
    fill = [(0, batch_size - len(label))]
    return {
      "image": np.pad(image, fill + [(0, 0)] * (image.ndim - 1)),
      "label": np.pad(label, fill),
      "mask": np.arange(batch_size) < len(label),
    }

  return map(batch, range(0, len(labels), batch_size))


def _rows(
  num_examples: int,
  batch_size: int,
  seed: int,
  process_index: int,
  process_count: int,
) -> Callable[[int], Array]:
  """Returns the function from a step to the examples of a process's rows."""
  per_epoch = steps_per_epoch(num_examples, batch_size)
  if seed < 0:
    raise ValueError(f"Expected seed={seed} >= 0.")
  if not 0 <= process_index < process_count:
    raise ValueError(f"Expected 0 <= {process_index=} < {process_count=}.")
  if batch_size % process_count:
    raise ValueError(f"Expected {process_count=} to divide {batch_size=}.")
  share = batch_size // process_count

  # Grain's own shuffle goes record by record: 0.8 to 1.7 ms for 128 bare
  # indices. The permutation of a whole epoch costs that once.
  @functools.lru_cache(maxsize=2)
  def order(epoch: int) -> Array:
    return np.random.default_rng([seed, epoch]).permutation(num_examples)

  def rows(step: int) -> Array:
    epoch, step = divmod(step, per_epoch)
    start = step * batch_size + process_index * share
    return order(epoch)[start : start + share]

  return rows


# ------------------------------------------------------------- on the device


def to_float(images: jax.Array) -> jax.Array:
  """Returns `uint8` pixels as `float32` in [0, 1], as the models take them."""
  return jnp.asarray(images, jnp.float32) / 255


@functools.partial(jax.jit, static_argnames=("pad", "flip"))
def augment(
  rng: jax.Array, images: jax.Array, pad: int = 4, flip: bool = True
) -> jax.Array:
  """Shifts every image at random, and mirrors every other one.

  The augmentation of He et al., "Deep Residual Learning for Image
  Recognition", arXiv:1512.03385, section 4.2: a random crop of the image
  within a black border, and a horizontal flip. Flips change the meaning of
  digits and traffic signs: pass `flip=False` there.

  Args:
    rng: a JAX PRNG key, split over the images.
    images: `[b, h, w, c]` of any dtype where black is 0.
    pad: the width of the border, hence the largest shift; 0 for no shift.
    flip: whether to mirror.

  Returns:
    The images, of the same shape and dtype.
  """
  shift_rng, flip_rng = jax.random.split(rng)
  count, height, width, channels = images.shape
  if pad:
    border = ((0, 0), (pad, pad), (pad, pad), (0, 0))
    corners = jax.random.randint(shift_rng, (count, 2), 0, 2 * pad + 1)
    images = jax.vmap(
      lambda image, at: jax.lax.dynamic_slice(
        image, (at[0], at[1], 0), (height, width, channels)
      )
    )(jnp.pad(images, border), corners)
  if flip:
    mirror = jax.random.bernoulli(flip_rng, shape=(count, 1, 1, 1))
    images = jnp.where(mirror, images[:, :, ::-1], images)
  return images


# ------------------------------------------------------------------- reading


def _check_name(name: str) -> None:
  if name not in NAMES:
    raise ValueError(
      f"Unknown data set {name!r}: choose from {', '.join(NAMES)}."
    )


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


def _find(name: str, data_dir: str | os.PathLike[str] | None) -> epath.Path:
  """Returns the folder of the newest version of a prepared data set."""
  root = find_data_dir(data_dir)
  found = {
    tuple(map(int, path.parent.name.split("."))): path.parent
    for path in (root / name).glob("*.*.*/dataset_info.json")
    if path.parent.name.replace(".", "").isdigit()
  }
  if not found:
    raise MissingDataError(
      f"No data set {name} in {root}: get it with `python -m "
      f"experiments.prepare {name} --data_dir={root}`, or let "
      "KEYJAX_DATA_DIR name the folder that has it."
    )
  return found[max(found)]


def _not_opencv(record: logging.LogRecord) -> bool:
  """Drops TFDS's advice to install OpenCV: images are decoded once, by PIL."""
  return "OpenCV" not in record.getMessage()


def _open(folder: epath.Path) -> Any:
  """Returns TFDS's builder of a folder whose records Python can read."""
  # Here, because the digits and the models do without TFDS.
  import tensorflow_datasets as tfds

  logging.getLogger("absl").addFilter(_not_opencv)
  builder = tfds.builder_from_directory(folder)
  if builder.info.file_format.value != "array_record":
    raise MissingDataError(
      f"{folder} holds {builder.info.file_format.value} files, which only "
      "TensorFlow reads: prepare the data set as array_record in another "
      f"folder with `python -m experiments.prepare {builder.name} "
      "--data_dir=OTHER_FOLDER`."
    )
  return builder


def _source(name: str, folder: epath.Path, info: Any) -> str:
  source = f"{name} {info.version} in {folder}"
  if name == "gtsrb":
    # Not in TFDS's catalogue: only the folder knows how it was made.
    return f"{source}: {' '.join(info.description.split())}"
  if _LOSSLESS[name] and info.features["image"].encoding_format == "jpeg":
    return (
      f"{source}: JPEG re-encodings of the published images, so accuracies "
      "can differ slightly from published ones"
    )
  return source


def _decoded(
  folder: epath.Path, split: str, size: int | None
) -> tuple[Array, Array]:
  """Returns a split's images and labels, from the cache where it has them."""
  source = _open(folder).as_data_source(split=split)
  indices = _subset(len(source), size, f"num_{split}")
  path = _cache_path(folder, split, len(indices))
  cached = _read_cache(path)
  if cached is not None:
    return cached
  images: list[Array] = []
  labels: list[int] = []
  for start in range(0, len(indices), _CHUNK):
    records = source.__getitems__(indices[start : start + _CHUNK].tolist())
    images.append(np.stack([r["image"] for r in records]))
    labels.extend(r["label"] for r in records)
  image, label = np.concatenate(images), np.array(labels, np.int32)
  _write_cache(path, image, label)
  return image, label


# --------------------------------------------------------------------- cache


def _cache_path(folder: epath.Path, split: str, size: int) -> pathlib.Path:
  """Returns where decoded arrays are kept; their content is in the name."""
  home = os.environ.get("XDG_CACHE_HOME")
  in_checkout = (_ROOT / "pyproject.toml").exists()
  default = _ROOT / ".cache" if in_checkout else pathlib.Path.home() / ".cache"
  # Two folders may hold different pixels under one name and version.
  digest = hashlib.sha256()
  for file in sorted(folder.iterdir()):
    digest.update(f"{file.name} {file.stat().length}\n".encode())
  digest.update((folder / "dataset_info.json").read_bytes())
  name = f"{folder.parent.name}-{folder.name}-{split}-{size}"
  return (
    pathlib.Path(home or default)
    / "keyjax"
    / "decoded"
    / f"{name}-{digest.hexdigest()[:16]}.npz"
  )


def _read_cache(path: pathlib.Path) -> tuple[Array, Array] | None:
  try:
    with np.load(path, allow_pickle=False) as arrays:
      return arrays["image"], arrays["label"]
  except FileNotFoundError:
    return None
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
    logging.warning("Decoding again: %s is damaged.", path)
    return None


def _write_cache(path: pathlib.Path, image: Array, label: Array) -> None:
  """Keeps the arrays; a folder or disk that takes none costs only time."""
  temporary = None
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
      temporary = pathlib.Path(file.name)
      np.savez(file, image=image, label=label)
    temporary.replace(path)
  except OSError as error:
    logging.warning("Decoded images are not kept: %s", error)
    if temporary is not None:
      temporary.unlink(missing_ok=True)


# --------------------------------------------------------------------- crops

Box = tuple[int, int, int, int]  # left, top, right, bottom


def _centre_box(height: int, width: int, rng: np.random.Generator) -> Box:
  del rng  # Unused: the centre is the centre.
  side = max(1, round(min(height, width) * 7 / 8))
  left, top = (width - side) // 2, (height - side) // 2
  return left, top, left + side, top + side


def _random_box(height: int, width: int, rng: np.random.Generator) -> Box:
  for _ in range(10):
    area = rng.uniform(0.08, 1) * height * width
    ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    w, h = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
    if 1 <= w <= width and 1 <= h <= height:
      left = int(rng.integers(width - w + 1))
      top = int(rng.integers(height - h + 1))
      return left, top, left + w, top + h
  return _centre_box(height, width, rng)


def _resized(image: Array, box: Box, size: int) -> Array:
  grey = image.shape[-1] == 1
  picture = PIL.Image.fromarray(image[..., 0] if grey else image)
  resized = picture.resize((size, size), PIL.Image.Resampling.BILINEAR, box)
  return np.asarray(resized).reshape(size, size, image.shape[-1])
