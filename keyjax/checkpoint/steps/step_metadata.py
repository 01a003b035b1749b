"""What a step records about itself: its items, metrics and custom metadata."""

import json
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from keyjax import arguments
from keyjax.checkpoint.errors import CheckpointContentError
from keyjax.checkpoint.format.manifest_json import MAX_METADATA
from keyjax.checkpoint.steps.items import (
  KINDS,
  STATE,
  TREE,
  is_item_name,
  is_single,
)
from keyjax.checkpoint.steps.texts import to_json
from keyjax.errors import ArgumentError

Metrics = dict[str, int | float]
BestFn = Callable[[Metrics], float]
_RECORD = "keyjax.step"
_MAX_NAME = 64


class StepMetadata(NamedTuple):
  """What a step records about itself.

  Attributes:
    items: Kind of each item ("tree", "json" or "iterator") by its name;
      `state` for the only tree of a step.
    metrics: Finite numbers by name, or None.
    custom_metadata: JSON of the run and of the step.
  """

  items: dict[str, str]
  metrics: Metrics | None
  custom_metadata: dict[str, Any]


def check_metrics(metrics: Any) -> Metrics | None:
  """Return metrics as Python numbers.

  Raises:
    ArgumentError: If they are not finite numbers by name.
  """
  if metrics is None:
    return None
  if not isinstance(metrics, Mapping) or not metrics:
    raise ArgumentError(
      f"metrics={arguments.describe(metrics)}: a dict of numbers by name"
    )
  found = {}
  for name, value in metrics.items():
    is_text = isinstance(name, str) and name.isprintable()
    if not (is_text and 1 <= len(name) <= _MAX_NAME):
      raise ArgumentError(
        f"metrics: the name of a metric is 1 to {_MAX_NAME} printable "
        "characters"
      )
    number = value
    if arguments.is_array(value) and np.size(value) == 1:
      number = np.asarray(value).item()
    is_real = isinstance(number, numbers.Real) and not isinstance(number, bool)
    if not is_real or not _is_finite(number):
      shown = arguments.show(number)
      raise ArgumentError(f"metric {name}={shown}: a finite number")
    found[name] = number if isinstance(number, int) else float(number)
  return found


def check_score(best_fn: BestFn | None, metrics: Metrics | None) -> None:
  """Refuse metrics by which the best step could not be chosen.

  Raises:
    ArgumentError: If there are none, or `best_fn` makes no finite number of
      them.
  """
  if best_fn is None:
    return
  if metrics is None:
    raise ArgumentError("save: best_fn needs metrics=, and there are none")
  try:
    score = best_fn(metrics)
  except KeyError as error:
    raise ArgumentError(
      f"best_fn needs the metric {error}; there is "
      f"{arguments.describe(metrics)}"
    ) from None
  if not _is_finite(score):  # NaN is neither better nor worse than a number.
    raise ArgumentError(
      f"best_fn returned {arguments.show(score)}: it has to be a finite number"
    )


def _is_finite(number: Any) -> bool:
  try:
    return math.isfinite(number)
  except (TypeError, ValueError, OverflowError):  # Also larger than a float.
    return False


def check_custom(metadata: Any, what: str) -> dict[str, Any]:
  """Return custom metadata as it is now, or an empty dict for None.

  Raises:
    ArgumentError: If it is not a dict of JSON of at most 1 MiB.
  """
  if metadata is None:
    return {}
  if type(metadata) is not dict:
    raise ArgumentError(f"{what}={arguments.describe(metadata)}: a dict")
  text = to_json(metadata, what)
  if len(text) > MAX_METADATA:
    raise ArgumentError(f"{what} has more than {MAX_METADATA} bytes")
  return json.loads(text)


def to_manifest(metadata: StepMetadata) -> dict[str, Any] | None:
  """Return what a manifest records: only what there is."""
  fields = metadata._asdict()
  if is_single(metadata.items):
    del fields["items"]
  record = {name: value for name, value in fields.items() if value}
  return {_RECORD: record} if record else None


def from_manifest(fields: dict[str, Any], path: Any) -> StepMetadata:
  """Read what a manifest records; whoever has the data key may have written it.

  Raises:
    CheckpointContentError: If it is not the metadata of a step.
  """
  # Others are from `save`: they have the metadata that it was given.
  record = fields.get(_RECORD, {"custom_metadata": fields})
  if type(record) is not dict:
    raise CheckpointContentError(f"{path} has no metadata of a step")
  items = record.get("items", {STATE: TREE})
  custom = record.get("custom_metadata", {})
  are_items = type(items) is dict and all(
    is_item_name(name) and kind in KINDS for name, kind in items.items()
  )
  if not (are_items and items and type(custom) is dict):
    raise CheckpointContentError(f"{path} has no metadata of a step")
  metrics = read_metrics(record.get("metrics"), path)
  return StepMetadata(items=items, metrics=metrics, custom_metadata=custom)


def read_metrics(value: Any, path: Any) -> Metrics | None:
  """Read the metrics of a step, which are not trusted.

  Raises:
    CheckpointContentError: If they are not finite numbers by name.
  """
  try:
    return check_metrics(value)
  except ArgumentError as error:
    raise CheckpointContentError(f"{path}: {error}") from None
