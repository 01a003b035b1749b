"""Accuracy with and without keys: rows of `experiments.main`."""

from collections.abc import Sequence
from typing import Any

from keyjax.card.rows import INTERVAL, Row, require, run_of

CONDITIONS = ("plain", "right", "api", "no_key", "wrong")
# From this share of NaN or infinite outputs an accuracy is an argmax of NaN.
MOSTLY_NONFINITE = 0.5
_COUNTS = ("images", "keys", "nonfinite", "max", "max_high", "min")


def is_row(row: Row) -> bool:
  """Return whether a row is the accuracy of a whole model."""
  return (
    row.get("metric") == row.get("judged_by", "accuracy")
    and row.get("condition") in CONDITIONS
    and "attack" not in row
  )


def no_number(row: Row) -> bool:
  """Return whether a metric was none, such as NaN, and the row says why."""
  return row.get("value") is None and bool(row.get("note"))


def order(row: Row) -> int:
  """Return the place of a row's condition on a card."""
  return CONDITIONS.index(row["condition"])


def entry(row: Row, runs: Sequence[Row]) -> dict[str, Any]:
  """Return what a card keeps of a row."""
  what = f"the accuracy of {row['condition']!r:.80}"
  counts = {k: row[k] for k in _COUNTS if k in row}
  score = require(row, ("condition", *INTERVAL), what)
  return score | counts | run_of(row, runs)
