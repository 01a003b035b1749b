"""What answers are worth to who copies the model: rows of `experiments.copies`.

Its other parts, dataset inference and models that are built again from data and
recipe, are not of a model that was asked, and are left out.
"""

from collections.abc import Sequence
from typing import Any

from keyjax.card.errors import CardError
from keyjax.card.rows import INTERVAL, Row, require, run_of, unique
from keyjax.card.sections.accuracy import CONDITIONS

PARTS = ("knockoff", "ownership", "rebuild")
_CONTROL = "swapped"  # The same answers, to other queries.
_PLACE = ("condition", "reply", "query_set", "queries")
_ASSUMED = (
  "reply_title",
  "set_title",
  "victims",
  "victim_examples",
  "victim_accuracy",
  "inputs",
  "test_images",
  "lost",
)


def is_row(row: Row) -> bool:
  """Return whether a row is the agreement of copies with their originals."""
  return row.get("part") == PARTS[0] and row.get("metric") == "agreement"


def entries(rows: Sequence[Row], runs: Sequence[Row]) -> list[dict[str, Any]]:
  """Return what a card keeps of rows: each with its control.

  Args:
    rows: Rows of one scheme and of the plain model, which has the controls.
    runs: Runs of the card.

  Raises:
    CardError: If a row lacks a field, or its control.
  """
  controls = [r for r in rows if r.get("reply") == _CONTROL]
  asked = [r for r in rows if r.get("reply") != _CONTROL]
  asked.sort(key=_order)
  return [_entry(r, controls, runs) for r in asked]


def _order(row: Row) -> tuple[int, str, str, int]:
  place = CONDITIONS.index(row["condition"])
  return (place, row["reply"], row["query_set"], row["queries"])


def _entry(
  row: Row, controls: Sequence[Row], runs: Sequence[Row]
) -> dict[str, Any]:
  what = f"the copy by {row['query_set']!r:.80}"
  kept = require(row, (*_PLACE, *_ASSUMED, *INTERVAL), what)
  # Titles are what a reader is shown.
  del kept["reply"], kept["query_set"]
  kept["answers"] = kept.pop("reply_title")
  kept["asked"] = kept.pop("set_title")
  place = (row["query_set"], row["queries"])
  found = unique(
    require(r, INTERVAL, f"the control of {what}")
    for r in controls
    if (r["query_set"], r["queries"]) == place
  )
  if len(found) != 1:
    problem = "several controls" if found else "no control"
    raise CardError(
      f"{what} has {problem} with as many queries: use the rows of one run, "
      "those of the plain model too"
    )
  return kept | {"control": found[0]} | run_of(row, runs)
