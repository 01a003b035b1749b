"""Batches by step, of arrays in memory or of images decoded as needed."""

import collections
import functools
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import grain
import numpy as np

from experiments.data import crops, folders, guarded
from experiments.data.dataset import Dataset, Streamed
from experiments.data.registry import DATASETS

Array = np.ndarray
Batch = dict[str, Array]
T = TypeVar("T")


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
  """Return the number of whole batches in an epoch; the rest is dropped."""
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
  """Return the training batches, by step: `batches(...)[step]`.

  Step `i` is the same batch in every run, so a run resumes at the step where
  it stopped. Every epoch visits the examples in a new order and drops the
  remainder. The global batch does not depend on the number of processes: each
  takes its own consecutive rows of it.

  Args:
    dataset: Data set.
    batch_size: Rows of the global batch, over all processes.
    seed: Seed of the order.
    process_index: Process whose rows to take.
    process_count: Number of processes that share a batch.

  Returns:
    An endless Grain data set of `{"image": uint8[b, h, w, c], "label":
    int32[b]}` (of a text, [b, t] both; of masks and boxes, labels as in
    `Dataset`) where `b = batch_size / process_count`; see `iterate`.

  Raises:
    ValueError: If the batch is larger than the data set, the processes do not
      divide it, or an index or the seed is out of range.
  """
  if isinstance(dataset, Streamed):
    return decoded(
      dataset.builder,
      "train",
      batch_size=batch_size,
      seed=seed,
      image_size=dataset.image_size,
      process_index=process_index,
      process_count=process_count,
    )
  images = dataset.train_images
  labels = dataset.train_labels
  rows = _rows(
    len(labels),
    batch_size=batch_size,
    seed=seed,
    process_index=process_index,
    process_count=process_count,
  )

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
  guard: guarded.Guard = guarded.NONE,
  process_index: int = 0,
  process_count: int = 1,
) -> grain.MapDataset[Batch]:
  """Return batches of a data set that does not fit in memory, by step.

  As `batches`, but a step reads and decodes its images; `iterate` can do that
  ahead, in threads.

  Args:
    name: Name of a data set that `experiments.prepare` makes.
    split: `train` gives random crops (8 to 100 % of the area, as Szegedy et
      al., "Going deeper with convolutions", 2015, section 6); any other, for
      instance `validation`, the centre (7/8 of the short side).
    batch_size: Rows of the global batch, over all processes.
    seed: Seed of the order and the crops.
    image_size: Side of the square images.
    data_dir: Folder of TFDS data sets; see `find_data_dir`.
    guard: How sealed or tagged data are opened and checked.
    process_index: Process whose rows to take.
    process_count: Number of processes that share a batch.

  Returns:
    An endless Grain data set of `{"image": uint8[b, s, s, c], "label":
    int32[b]}` where `b = batch_size / process_count`.

  Raises:
    ValueError: If the name is unknown, or a number is out of range.
    MissingDataError: If the data set is not in the folder.
  """
  if DATASETS.get(name).preparation is None:
    raise ValueError(f"{name} is in memory: use load({name!r}) and batches().")
  return decoded(
    folders.open_folder(folders.find(name, data_dir), guard),
    split,
    batch_size=batch_size,
    seed=seed,
    image_size=image_size,
    process_index=process_index,
    process_count=process_count,
  )


def decoded(
  builder: Any,
  split: str,
  batch_size: int,
  seed: int,
  image_size: int,
  process_index: int = 0,
  process_count: int = 1,
) -> grain.MapDataset[Batch]:
  """Return batches of an opened data set; see `stream`.

  Args:
    builder: What `folders.open_folder` returned.
    split: As for `stream`, and so are the others.
    batch_size: Rows of the global batch.
    seed: Seed of the order and the crops.
    image_size: Side of the square images.
    process_index: Process whose rows to take.
    process_count: Number of processes that share a batch.
  """
  source = builder.as_data_source(split=split)
  rows = _rows(
    len(source),
    batch_size=batch_size,
    seed=seed,
    process_index=process_index,
    process_count=process_count,
  )
  box = crops.random_box if split == "train" else crops.centre_box

  def batch(step: int) -> Batch:
    picked = rows(step)
    records = source.__getitems__(picked.tolist())
    images = []
    labels = []
    for i, record in zip(picked, records, strict=True):
      rng = np.random.default_rng([seed, step, i])
      height, width, _ = record["image"].shape
      crop = box(height, width, rng)
      # [h, w, c] -> [image_size, image_size, c]
      images.append(crops.resized(record["image"], crop, image_size))
      labels.append(record["label"])
    return {"image": np.stack(images), "label": np.array(labels, np.int32)}

  return grain.MapDataset.range(sys.maxsize).map(batch)


def iterate(source: Any, start: int, threads: int = 0) -> Iterator[Batch]:
  """Return the batches from a step on.

  Args:
    source: Result of `batches` or `stream`.
    start: First step.
    threads: Number of threads that prepare batches ahead, one batch each; 0
      for none.
  """
  if not threads:
    return (source[step] for step in itertools.count(start))
  options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
  return iter(source[start:].to_iter_dataset(options))


def prefetch(
  batches: Iterator[Batch], put: Callable[[Batch], T], size: int
) -> Iterator[T]:
  """Return the batches in order, with the next ones already on the devices.

  When a batch is requested, the one `size` steps later is drawn and its copy
  begins, while the previous step is still running: a consumer that only queues
  work waits for neither. Batches that were drawn and never requested are
  dropped; a resumed run draws them again by their steps. An error in the
  pipeline is raised when its batch is due, so that all earlier steps are taken
  and logged.

  Args:
    batches: As many batches as will be requested: no more are drawn.
    put: Function that begins the copy to the devices; see
      `keyjax.parallel.put`.
    size: Number of batches ahead; 0 for none.

  Example:
    >>> drawn = []
    >>> ahead = prefetch(iter(range(9)), lambda x: drawn.append(x) or x, 2)
    >>> next(ahead), drawn
    (0, [0, 1, 2])
  """
  ahead: collections.deque[T] = collections.deque()
  found: Exception | None = None
  while True:
    while found is None and len(ahead) <= size:
      try:
        ahead.append(put(next(batches)))
      except StopIteration as end:
        found = end
      except Exception as error:
        found = error
    if ahead:
      yield ahead.popleft()
    elif isinstance(found, StopIteration):
      return
    elif found is not None:
      raise found


def eval_batches(
  images: Array, labels: Array, batch_size: int
) -> Iterator[Batch]:
  """Return every example once, in order, in batches of one shape.

  Args:
    images: `[n, ...]`.
    labels: `[n, ...]`.
    batch_size: Rows of a batch.

  Returns:
    An iterator of `{"image": [batch_size, ...], "label": [batch_size], "mask":
    bool[batch_size]}`; the mask is False on the rows that pad the last
    batch.

  Raises:
    ValueError: If the batch size is not positive, or the lengths differ.
  """
  if batch_size < 1:
    raise ValueError(f"Expected batch_size={batch_size} >= 1.")
  if len(images) != len(labels):
    raise ValueError(f"Got {len(images)} images and {len(labels)} labels.")

  def batch(start: int) -> Batch:
    image = images[start : start + batch_size]
    label = labels[start : start + batch_size]
    padding = [(0, batch_size - len(label))]
    return {
      "image": np.pad(image, padding + [(0, 0)] * (image.ndim - 1)),
      "label": np.pad(label, padding + [(0, 0)] * (label.ndim - 1)),
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
  """Return a function from a step to the indices of a process's rows."""
  per_epoch = steps_per_epoch(num_examples, batch_size)
  if seed < 0:
    raise ValueError(f"Expected seed={seed} >= 0.")
  if not 0 <= process_index < process_count:
    raise ValueError(f"Expected 0 <= {process_index=} < {process_count=}.")
  if batch_size % process_count:
    raise ValueError(f"Expected {process_count=} to divide {batch_size=}.")
  share = batch_size // process_count

  # Grain's own shuffle takes 0.8 to 1.7 ms for 128 indices, one by one. The
  # permutation of a whole epoch costs that once.
  @functools.lru_cache(maxsize=2)
  def order(epoch: int) -> Array:
    return np.random.default_rng([seed, epoch]).permutation(num_examples)

  def rows(step: int) -> Array:
    epoch, step = divmod(step, per_epoch)
    start = step * batch_size + process_index * share
    return order(epoch)[start : start + share]

  return rows
