"""Figures over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keyjax.attacks.intervals import clopper_pearson

Row = dict[str, Any]


def over_seeds(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
  """Return a row for each figure: its mean, and the range over seeds.

  Agreement has the exact interval of all questions.
  """
  found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
  for row in rows:
    found.setdefault((row["title"], row["metric"]), []).append(row)
  return [_summary(own) for own in found.values()]


def _summary(own: Sequence[Mapping[str, Any]]) -> Row:
  values = [r["value"] for r in own]
  low, high, how = min(values), max(values), "range over seeds"
  if own[0]["metric"] == "agreement":
    asked = sum(r["queries"] for r in own)
    agreed = round(sum(r["queries"] * r["value"] for r in own))
    low, high = clopper_pearson(agreed, asked)
    how = f"Clopper-Pearson over {asked} questions"
  return {k: v for k, v in own[0].items() if k not in ("row", "seed")} | {
    "value": float(np.mean(values)),
    "values": values,
    "seeds": [r["seed"] for r in own],
    "low": low,
    "high": high,
    "interval": how,
    "commit": ", ".join(dict.fromkeys(r["commit"] for r in own)),
  }
