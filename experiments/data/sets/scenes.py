"""Scenes of digits on a textured ground, with a mask or boxes for each.

    scene_masks, scene_boxes               MNIST, 64 x 64 pixels
    digit_scene_masks, digit_scene_boxes   scikit-learn's digits, 32 x 32

A scene has one to four digits of random sizes at random places, which overlap
little. Scenes are made when they are loaded, always the same; digits of the
test scenes are none of the training scenes.
"""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
import PIL.Image

from experiments.data.dataset import Dataset, pixel_statistics
from experiments.data.registry import DATASETS, Entry, Options, load

Array = np.ndarray
_MOST = 4  # Digits of a scene.
_NUM_TRAIN, _NUM_TEST = 4000, 500
_TRIES = 20  # Places for a digit, before it is left out.
_OVERLAP = 0.1  # Largest share of the smaller box that another one covers.
_INK = 96  # Grey level from which a pixel belongs to the digit.


@dataclasses.dataclass(frozen=True)
class Kind:
  """A family of scenes.

  Attributes:
    digits: Name of the data set that the digits come from.
    side: Side of a scene.
    sizes: Smallest and largest side of a digit's image.
  """

  digits: str
  side: int
  sizes: tuple[int, int]


KINDS = {
  "scene": Kind("mnist", side=64, sizes=(20, 36)),
  "digit_scene": Kind("digits", side=32, sizes=(12, 18)),
}


def make(
  kind: Kind, digits: Array, labels: Array, seed: int, count: int
) -> tuple[Array, Array, Array]:
  """Make scenes; the first ones do not depend on their number.

  Args:
    kind: Family of the scenes.
    digits: uint8[n, h, w, 1], bright on black.
    labels: int32[n].
    seed: Of the random numbers; each scene has its own.
    count: Number of scenes.

  Returns:
    Images uint8[count, side, side, 1]; masks uint8[count, side, side], the
    digit plus one, 0 for the ground; boxes float32[count, 4, 5]: y0, x0, y1, x1
    and the digit, -1 on padding.

  Example:
    >>> one = np.full((1, 8, 8, 1), 255, np.uint8)
    >>> kind = Kind("digits", side=32, sizes=(12, 18))
    >>> images, masks, boxes = make(kind, one, np.array([7]), 0, 2)
    >>> images.shape, masks.max(), boxes[0, 0, 4]
    ((2, 32, 32, 1), np.uint8(8), np.float32(7.0))
  """
  images = np.zeros((count, kind.side, kind.side, 1), np.uint8)
  masks = np.zeros((count, kind.side, kind.side), np.uint8)
  boxes = np.full((count, _MOST, 5), -1, np.float32)
  for i in range(count):
    rng = np.random.default_rng([seed, i])
    scene = _ground(rng, kind.side)
    for j, (ink, box, of) in enumerate(_placed(rng, kind, digits)):
      y0, x0, y1, x1 = box
      at = (slice(y0, y1), slice(x0, x1))
      scene[at] = np.maximum(scene[at], ink * rng.uniform(0.7, 1))
      masks[i][at] = np.where(ink >= _INK, labels[of] + 1, masks[i][at])
      boxes[i, j] = (*box, labels[of])
    images[i, ..., 0] = np.clip(scene, 0, 255)
  return images, masks, boxes


def _ground(rng: np.random.Generator, side: int) -> Array:
  """Return a ground of soft spots and noise, float[side, side]."""
  spots = rng.uniform(0, 90, (side // 8, side // 8)).astype(np.float32)
  soft = PIL.Image.fromarray(spots).resize(
    (side, side), PIL.Image.Resampling.BICUBIC
  )
  return np.asarray(soft) + rng.normal(0, 12, (side, side))


def _placed(
  rng: np.random.Generator, kind: Kind, digits: Array
) -> Iterator[tuple[Array, tuple[int, int, int, int], int]]:
  """Yield the ink of each digit of a scene, its box, and its index."""
  taken: list[tuple[int, int, int, int]] = []
  for _ in range(rng.integers(1, _MOST + 1)):
    of = int(rng.integers(len(digits)))
    size = int(rng.integers(kind.sizes[0], kind.sizes[1] + 1))
    picture = PIL.Image.fromarray(digits[of, ..., 0])
    ink = np.asarray(
      picture.resize((size, size), PIL.Image.Resampling.BILINEAR), np.float32
    )
    rows = np.flatnonzero((ink >= _INK).any(1))
    columns = np.flatnonzero((ink >= _INK).any(0))
    if not rows.size:
      continue
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = ink.shape
    for _ in range(_TRIES):
      y, x = rng.integers(0, (kind.side - height + 1, kind.side - width + 1))
      box = (int(y), int(x), int(y) + height, int(x) + width)
      if all(_covered(box, other) <= _OVERLAP for other in taken):
        taken.append(box)
        yield ink, box, of
        break


def _covered(a: tuple[int, ...], b: tuple[int, ...]) -> float:
  """Return the share of the smaller box that the other one covers."""
  height = max(0, min(a[2], b[2]) - max(a[0], b[0]))
  width = max(0, min(a[3], b[3]) - max(a[1], b[1]))
  areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
  return height * width / min(areas)


def _load(options: Options, kind: str, task: str) -> Dataset:
  """Make the scenes of a data set.

  Raises:
    ValueError: If a size is out of range.
    MissingDataError: If the digits are not on this machine.
  """
  sizes = {}
  for field, usual in (("num_train", _NUM_TRAIN), ("num_test", _NUM_TEST)):
    asked = getattr(options, field)
    sizes[field] = usual if asked is None else asked
    if sizes[field] < 1:
      raise ValueError(f"Expected 1 <= {field}={asked}.")
  found = KINDS[kind]
  digits = load(found.digits, options.data_dir, guard=options.guard)
  which = 1 if task == "masks" else 2
  train = make(
    found, digits.train_images, digits.train_labels, 0, sizes["num_train"]
  )
  test = make(
    found, digits.test_images, digits.test_labels, 1, sizes["num_test"]
  )
  mean, std = pixel_statistics(train[0])
  names = tuple(map(str, range(digits.num_classes)))
  with_ground = task == "masks"
  return Dataset(
    name=f"{kind}_{task}",
    train_images=train[0],
    train_labels=train[which],
    test_images=test[0],
    test_labels=test[which],
    num_classes=digits.num_classes + with_ground,
    class_names=("ground", *names) if with_ground else None,
    mean=mean,
    std=std,
    source=f"scenes made here of {digits.source}",
    task=task,
  )


def _register(kind: str, task: str) -> None:
  DATASETS.add(
    f"{kind}_{task}",
    Entry(
      functools.partial(_load, kind=kind, task=task),
      origin=f"is made of the data set {KINDS[kind].digits}",
      files=True,
    ),
  )


for _kind in KINDS:
  for _task in ("masks", "boxes"):
    _register(_kind, _task)
