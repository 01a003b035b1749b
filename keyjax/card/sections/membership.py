"""Who was in the training data: rows of `experiments.privacy`.

A figure without what it assumes says nothing: a row that lacks a part of it is
refused.
"""

from collections.abc import Sequence
from typing import Any

from keyjax.card.rows import INTERVAL, Row, require, run_of
from keyjax.card.sections.accuracy import CONDITIONS

TPR = "tpr_"  # Followed by the FPR.
_METRICS = ("auc", "balanced_accuracy")
_AUDIT = "epsilon_bound"  # Of a training, not of the card's: left out.
_ASSUMED = (
  "examples",
  "members",
  "others",
  "draw",
  "models",
  "shadows_used",
  "shadow_models",
  "label_noise",
  "nan",
)
_WHY = (
  "a privacy figure is not shown without it; experiments.privacy, run again "
  "in its workdir, adds what older rows do not state"
)


def is_row(row: Row) -> bool:
  """Return whether a row is a figure of a membership attack."""
  return "part" not in row and is_leak(row)


def is_leak(row: Row) -> bool:
  """Return whether the metric of a row is one of membership."""
  metric = str(row.get("metric"))
  return metric in _METRICS or metric.startswith(TPR)


def is_audit(row: Row) -> bool:
  """Return whether a row is an audit, which a card does not have."""
  return row.get("metric") == _AUDIT


def order(row: Row) -> tuple[int, str, str, str, float]:
  """Return the place of a row on a card: TPRs last, the greatest FPR first."""
  place = CONDITIONS.index(row["condition"])
  metric, least = row["metric"], 0.0
  if metric.startswith(TPR):
    metric, least = TPR, -float(metric.removeprefix(TPR))
  return (place, str(row.get("reply")), row["attack"], metric, least)


def entry(row: Row, runs: Sequence[Row]) -> dict[str, Any]:
  """Return what a card keeps of a row."""
  what = f"the membership attack {row['attack']!r:.80}"
  names = ("attack", "attack_title", "condition")
  kept = require(row, (*names, *INTERVAL), what)
  kept |= require(row, _ASSUMED, what, _WHY) | figure(row, what, _WHY)
  kept["title"] = kept.pop("attack_title")
  kept["shadows"] = kept.pop("shadows_used")
  if row["condition"] == "api":
    kept["answers"] = require(row, ("reply_title",), what, _WHY)["reply_title"]
  return kept | run_of(row, runs)


def figure(row: Row, what: str, why: str) -> dict[str, Any]:
  """Return the metric of a row; of a TPR, its FPR and if examples resolve it.

  Args:
    row: The row.
    what: What it is of, for the error.
    why: Why a field is needed, for the error.
  """
  metric = row["metric"]
  if not metric.startswith(TPR):
    return {"metric": metric}
  resolved = require(row, ("resolved",), what, why)
  return {"metric": "tpr", "fpr": float(metric.removeprefix(TPR)), **resolved}
