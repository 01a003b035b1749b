"""What a model tells of its data, and of itself to who asks: all in one place.

The rows are those of the card's scheme and of the plain model, with which they
are compared.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from keyjax.card.rows import Row, unique
from keyjax.card.sections import copies, membership, recordings

Entries = list[dict[str, Any]]
_PLAIN = "identity"
_IS_ROW: dict[str, Callable[[Row], bool]] = {
  "membership": membership.is_row,
  "copies": copies.is_row,
  "gradients": recordings.is_gradient,
  "updates": recordings.is_update,
}


def is_row(row: Row) -> bool:
  """Return whether a row is of a command whose rows are in this section."""
  commands = (*copies.PARTS, *recordings.PARTS)
  own = membership.is_row(row) or membership.is_audit(row)
  return own or row.get("part") in commands


def select(rows: Iterable[Row], label: str) -> dict[str, list[Row]]:
  """Return the rows of each part of the section.

  Args:
    rows: Rows of models that were trained as the card's was.
    label: Label of the card's scheme.
  """
  own = unique(
    r for r in rows if r.get("scheme") == label or r.get("mechanism") == _PLAIN
  )
  return {
    part: [r for r in own if is_part(r)] for part, is_part in _IS_ROW.items()
  }


def section(
  found: Mapping[str, Sequence[Row]], runs: Sequence[Row]
) -> dict[str, Any]:
  """Return the section, or no field if there are no rows of it.

  Args:
    found: From `select`.
    runs: Runs of the card.

  Raises:
    CardError: If a row lacks an interval, or something that it assumes.
  """
  ordered = sorted(found["membership"], key=membership.order)
  gradients = sorted(found["gradients"], key=recordings.order)
  updates = sorted(found["updates"], key=recordings.order)
  made: dict[str, Entries] = {
    "membership": [membership.entry(r, runs) for r in ordered],
    "copies": copies.entries(found["copies"], runs),
    "gradients": [recordings.gradient(r, runs) for r in gradients],
    "updates": [recordings.update(r, runs) for r in updates],
  }
  kept = {part: rows for part, rows in made.items() if rows}
  return {"leaks": kept} if kept else {}
