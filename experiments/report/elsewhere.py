"""What the locks of a run leave on data that are less small."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report.svg import percent
from experiments.report.view import Scheme
from experiments.tables import code, headlines
from experiments.tables.leaderboard import lock_name
from keyjax.card.sections.accuracy import MOSTLY_NONFINITE

_FIELDS = ("mechanism", "options", "value", "values", "nonfinite", "seen")
_FILE = code.ROOT / "results" / "table_mnist.json"


def mnist(schemes: Sequence[Scheme], file: pathlib.Path = _FILE) -> str:
  """Return what no key leaves on MNIST, beside a run on the embedded digits.

  Args:
    schemes: Locks of the run.
    file: Rows of `experiments.table` on MNIST.

  Returns:
    Sentences, without locks that answered mostly NaN; nothing for other data.
  """
  if not any(s.field("dataset") == "digits" for s in schemes):
    return ""
  rows = headlines.read_some(
    file, _FIELDS, condition="no_key", metric="accuracy"
  )
  found = {
    lock_name(r["mechanism"], r["options"]): r
    for r in rows
    if r["nonfinite"] < MOSTLY_NONFINITE * r["seen"]
  }
  shown = [(s.title, found[n]) for s in schemes if (n := _name(s)) in found]
  if not shown:
    return ""
  left = "; ".join(f"{title} {_span(row)}" for title, row in shown)
  counts = sorted({len(row["values"]) for _, row in shown})
  seeds = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
  return (
    "These 1,797 images of 8 x 8 pixels are for a first look, and what is left "
    f"without a key changes with the key. On MNIST, over {seeds} seeds, no key "
    f"leaves: {left} ({file.parent.name}/{file.name})."
  )


def _name(scheme: Scheme) -> str:
  return lock_name(
    str(scheme.field("mechanism")), scheme.field("options") or {}
  )


def _span(row: Mapping[str, Any]) -> str:
  low, high = min(row["values"]), max(row["values"])
  mean = percent(row["value"])
  return f"{mean} ({percent(low)} to {percent(high)})" if low < high else mean
