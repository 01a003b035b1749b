"""Accuracy on adversarial inputs: rows of `experiments.robustness`."""

from collections.abc import Sequence
from typing import Any

from keyjax.card.rows import INTERVAL, Row, require, run_of

_METRIC = "robust accuracy"
_NAMES = ("attack", "attack_title", "norm", "epsilon", "condition", "images")


def is_row(row: Row) -> bool:
  """Return whether a row is an accuracy on inputs that were changed."""
  return row.get("metric") == _METRIC


def entry(row: Row, runs: Sequence[Row]) -> dict[str, Any]:
  """Return what a card keeps of a row."""
  what = f"the attack {row['attack']!r:.80}"
  kept = require(row, (*_NAMES, *INTERVAL), what)
  kept["title"] = kept.pop("attack_title")
  kept["queries"] = row["cost"]["queries"]
  return kept | run_of(row, runs)
