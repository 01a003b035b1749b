"""Batches by step: of arrays in memory, or read and decoded as they go."""

import collections
import functools
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import grain
import numpy as np

from experiments.data import crops, folders
from experiments.data.datasets import Dataset, Streamed

Array = np.ndarray
Batch = dict[str, Array]
T = TypeVar("T")


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
    int32[b]}` (of a text, [b, t] both) where `b = batch_size /
    process_count`; `iterate` goes through it.

  Raises:
    ValueError: the batch is larger than the data set, the processes do not
      divide it, or an index or the seed is out of range.
  """
  place = process_index, process_count
  if isinstance(dataset, Streamed):
    size, folder = dataset.image_size, dataset.data_dir
    return stream(dataset.name, "train", batch_size, seed, size, folder, *place)
  images, labels = dataset.train_images, dataset.train_labels
  rows = _rows(len(labels), batch_size, seed, *place)

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

  As `batches`, but a step reads and decodes its images: `iterate` has threads
  that prepare batches ahead.

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
  folders.check_name(name)
  if name == "digits":
    raise ValueError("digits is in memory: use load('digits') and batches().")
  builder = folders.open_folder(folders.find(name, data_dir))
  source = builder.as_data_source(split=split)
  rows = _rows(len(source), batch_size, seed, process_index, process_count)
  box = crops.random_box if split == "train" else crops.centre_box

  def batch(step: int) -> Batch:
    picked = rows(step)
    records = source.__getitems__(picked.tolist())
    images, labels = [], []
    for i, record in zip(picked, records, strict=True):
      rng = np.random.default_rng([seed, step, i])
      height, width, _ = record["image"].shape
      crop = box(height, width, rng)
      images.append(crops.resized(record["image"], crop, image_size))
      labels.append(record["label"])
    return {"image": np.stack(images), "label": np.array(labels, np.int32)}

  return grain.MapDataset.range(sys.maxsize).map(batch)


def iterate(source: Any, start: int, threads: int = 0) -> Iterator[Batch]:
  """Returns the batches from a step on.

  Args:
    source: from `batches` or `stream`.
    start: the first step.
    threads: how many prepare batches ahead, a batch each; 0 for none.
  """
  if not threads:
    return (source[step] for step in itertools.count(start))
  options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
  return iter(source[start:].to_iter_dataset(options))


def prefetch(
  batches: Iterator[Batch], put: Callable[[Batch], T], size: int
) -> Iterator[T]:
  """Returns the batches in order, with the next ones on the devices already.

  When a batch is asked for, the one `size` after it is drawn and put, while
  the step before is still running: a consumer that only queues work waits for
  neither. What was drawn and not asked for is dropped; a resumed run draws it
  again by its step. An error of the pipeline comes when its batch is due, so
  that all steps before it are taken and logged.

  Args:
    batches: as many as will be asked for: no more is drawn.
    put: begins the copy to the devices; see `keyjax.parallel.put`.
    size: how many batches ahead; 0 for none.

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
  """Returns every example once, in order, in batches of one shape.

  Args:
    images: `[n, ...]`.
    labels: `[n]`, or `[n, t]`.
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
      "label": np.pad(label, fill + [(0, 0)] * (label.ndim - 1)),
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
