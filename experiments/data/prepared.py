"""Data sets in folders that TFDS prepared, decoded into memory once."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from etils import epath

from experiments.data import cache, folders
from experiments.data.dataset import Dataset, pixel_statistics, subset
from experiments.data.registry import DATASETS, Entry, Options, Preparation

Array = np.ndarray
Statistics = tuple[tuple[float, ...], tuple[float, ...]]
_CHUNK = 1024  # Decoded records held as dictionaries at once.


def register(
  name: str,
  preparation: Preparation,
  caveat: Callable[[Any], str] | None = None,
  statistics: Statistics | None = None,
) -> None:
  """Register a data set that fits in memory, by its name in TFDS.

  Args:
    name: Name of the data set.
    preparation: How its folder is made.
    caveat: Function from TFDS's description of the folder to how the data
      differ from the published ones; empty if they do not.
    statistics: Mean and standard deviation per channel, if publications agree
      on them; measured by default.
  """
  load = functools.partial(
    _load, name=name, caveat=caveat, statistics=statistics
  )
  DATASETS.add(name, Entry(load, preparation))


def jpeg_caveat(info: Any) -> str:
  """Return the caveat of a JPEG copy of images that were published losslessly.

  Args:
    info: TFDS's description of the folder.
  """
  if info.features["image"].encoding_format != "jpeg":
    return ""
  return (
    "JPEG re-encodings of the published images, so accuracies can differ "
    "slightly from published ones"
  )


def source_text(name: str, info: Any, caveat: str) -> str:
  """Return what a data set is, and how it differs from the original.

  Rows and cards are published: the folder of one machine is not part of it.
  """
  source = f"{name} {info.version} of tensorflow-datasets"
  return f"{source}: {caveat}" if caveat else source


def _load(
  options: Options,
  name: str,
  caveat: Callable[[Any], str] | None,
  statistics: Statistics | None,
) -> Dataset:
  folder = folders.find(name, options.data_dir)
  builder = folders.open_folder(folder, options.guard)
  info = builder.info
  (train_images, train_labels), (test_images, test_labels) = (
    _decoded(folder, builder, split, size, cached=not options.guard.key)
    for split, size in (
      ("train", options.num_train),
      ("test", options.num_test),
    )
  )
  mean, std = statistics or pixel_statistics(train_images)
  label = info.features["label"]
  numbered = label.names == [str(i) for i in range(len(label.names))]
  return Dataset(
    name=name,
    train_images=train_images,
    train_labels=train_labels,
    test_images=test_images,
    test_labels=test_labels,
    num_classes=label.num_classes,
    class_names=None if numbered else tuple(label.names),
    mean=mean,
    std=std,
    source=source_text(name, info, caveat(info) if caveat else ""),
  )


def _decoded(
  folder: epath.Path,
  builder: Any,
  split: str,
  size: int | None,
  *,
  cached: bool,
) -> tuple[Array, Array]:
  """Return a split's images and labels.

  Args:
    folder: Folder of the data set.
    builder: What `open_folder` returned.
    split: Name of the split.
    size: Number of images; None for all.
    cached: Whether decoded images are read from a cache, or written to it. What
      is sealed is never written, and what has tags is checked each time.
  """
  records = builder.as_data_source(split=split)
  indices = subset(len(records), size, f"num_{split}")
  if not cached:
    return _decode(records, indices)
  path = cache.path_of(folder, split, len(indices))
  found = cache.read(path)
  if found is not None:
    return found
  image, label = _decode(records, indices)
  cache.write(path, image, label)
  return image, label


def _decode(
  records: Any, indices: Sequence[int] | Array
) -> tuple[Array, Array]:
  """Return `uint8[n, h, w, c]` images and `int32[n]` labels."""
  images: list[Array] = []
  labels: list[int] = []
  for start in range(0, len(indices), _CHUNK):
    chunk = records.__getitems__(
      list(map(int, indices[start : start + _CHUNK]))
    )
    images.append(np.stack([r["image"] for r in chunk]))
    labels.extend(r["label"] for r in chunk)
  # Chunks of [1024, h, w, c] -> [n, h, w, c]
  return np.concatenate(images), np.array(labels, np.int32)
