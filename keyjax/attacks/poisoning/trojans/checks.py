"""Checks of the arguments of triggers."""

from typing import Any

import numpy as np

from keyjax import tasks
from keyjax.arguments import describe, show, whole_number
from keyjax.attacks.evasion import checks
from keyjax.attacks.game import Examples
from keyjax.attacks.privacy import signals


def check_images(images: Any, shape: tuple[int, ...] | None = None) -> None:
  """Raise ValueError unless images are float32[n, h, w, c] in [0, 1].

  Args:
    images: The images; their values are checked if they are known.
    shape: Height, width and channels of the trigger; None for any.
  """
  checks.check_inputs(images, (0.0, 1.0))
  found = np.shape(images)
  if len(found) != 4:
    raise ValueError(f"images have shape {found}: pass [n, h, w, c]")
  if shape is not None and found[1:] != tuple(shape):
    raise ValueError(
      f"images have shape {found}: this trigger is for {list(shape)}"
    )


def check_data(data: Examples) -> np.ndarray:
  """Return the labels of images as int64[n], or raise ValueError."""
  check_images(data.image)
  labels = signals.check_labels(
    data.label, (tasks.num_examples(data.image), np.iinfo(np.int32).max)
  )
  return labels


def check_pattern(pattern: Any, name: str = "pattern") -> np.ndarray:
  """Return a pattern as float32[h, w, c], or raise ValueError.

  Args:
    pattern: float[h, w, c] in [0, 1].
    name: Its name, for the error.
  """
  found = np.asarray(pattern)
  real = np.issubdtype(found.dtype, np.floating)
  if found.ndim != 3 or 0 in found.shape or not real:
    raise ValueError(f"{name} is {describe(found)}: pass floats, [h, w, c]")
  if not (found.min() >= 0 and found.max() <= 1):
    raise ValueError(
      f"{name} has values from {found.min()} to {found.max()}: pass 0 to 1"
    )
  return found.astype(np.float32)


def check_weight(value: Any, name: str) -> float:
  """Return a number above 0 and at most 1, or raise ValueError."""
  found = signals.check_share(value, name)
  if not found:
    raise ValueError(f"{name}={show(value)}: above 0, at most 1")
  return found


def check_shape(shape: Any) -> tuple[int, int, int]:
  """Return the shape of an image, or raise ValueError."""
  sizes = tuple(shape)
  if len(sizes) != 3:
    raise ValueError(f"shape={sizes}: pass height, width and channels")
  h, w, c = (whole_number(size, "shape") for size in sizes)
  return h, w, c
