"""Checks of the arguments of detectors."""

from typing import Any

import numpy as np

from keyjax.attacks.privacy import signals


def check_activations(
  activations: Any, labels: Any, least: int
) -> tuple[np.ndarray, np.ndarray]:
  """Return activations as float64[n, d] and labels as int64[n].

  Args:
    activations: float[n, d], finite.
    labels: int[n].
    least: Examples that each class needs that has any.

  Raises:
    ValueError: If one is of another shape or not finite, or a class has fewer
      examples.
  """
  x = signals.check_values(activations, "activations", (2,), finite=False)
  if not np.isfinite(x).all():
    raise ValueError("activations are NaN or infinite: pass finite ones")
  y = signals.check_labels(labels, (len(x), np.iinfo(np.int32).max))
  classes, counts = np.unique(y, return_counts=True)
  if np.min(counts) < least:
    raise ValueError(
      f"class {classes[np.argmin(counts)]} has {np.min(counts)} examples: each "
      f"needs {least} or more"
    )
  return x, y
