"""Rows of the copies: means over victims, with intervals."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from experiments.copying.victims import Victims
from experiments.run import results
from keyjax.attacks import intervals
from keyjax.attacks.copies import likeness
from keyjax.attacks.game import Examples


def base(
  victims: Victims, scheme: str, part: str, condition: str
) -> dict[str, Any]:
  """Return the fields of all rows of a measurement."""
  names = results.names(scheme, victims.config.schemes[scheme])
  return names | {
    "part": part,
    "condition": condition,
    "victims": victims.config.copies.victims,
    "victim_examples": int(victims.halves(0)[0].sum()),
    "inputs": victims.config.copies.inputs,
    "test_images": len(victims.test.label),
  }


def row(
  fields: dict[str, Any],
  metric: str,
  values: Sequence[float],
  images: int,
  **more: Any,
) -> dict[str, Any]:
  """Return a share: its mean over victims, with a 95 % interval.

  Args:
    fields: Fields of the row.
    metric: Name of the metric.
    values: Its value for each victim (and each wrong key).
    images: Number of images of each, for the interval over images, which is
      used where the values do not differ.
    **more: Other fields.
  """
  found = np.asarray(values, np.float64)
  value = float(found.mean())
  if len(found) > 1 and np.ptp(found) > 0:
    low, high = intervals.mean_interval(found)
    method = "Student's t over victims"
  else:
    low, high = intervals.clopper_pearson(round(value * images), images)
    method = "Clopper-Pearson over images"
  return results.row(
    fields,
    metric=metric,
    value=value,
    low=low,
    high=high,
    interval=method,
    values=[float(x) for x in found],
    **more,
  )


def mean_accuracy(logits: Iterable[np.ndarray], test: Examples) -> float:
  """Return the mean accuracy of some models."""
  found = [float(likeness.accuracy(x, test.label)) for x in logits]
  return float(np.mean(found))
