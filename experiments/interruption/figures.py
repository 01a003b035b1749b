"""Rows of figures, and where each is in a table of learners by theta."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keyjax.attacks.intervals import clopper_pearson, mean_interval

Row = dict[str, Any]


def grid(
  rows: Sequence[Mapping[str, Any]], experiment: str, metric: str
) -> tuple[list[float], dict[str, list[Mapping[str, Any]]]]:
  """Return the values of theta, or numbers of rooms, and rows by learner.

  Args:
    rows: Rows of the experiments.
    experiment: Of a key of `measure.METRICS`.
    metric: Of the same.
  """
  wanted = experiment, metric
  found = [r for r in rows if (r["experiment"], r["metric"]) == wanted]
  by: dict[str, list[Mapping[str, Any]]] = {}
  for row in found:
    by.setdefault(row["title"], []).append(row)
  return list(dict.fromkeys(r["x"] for r in found)), by


def names(experiment: str, learner: str, title: str, x: float) -> Row:
  """Return the fields that say what a figure is of."""
  found = {"experiment": experiment, "learner": learner}
  return found | {"title": title, "x": x}


def mean(
  metric: str,
  values: np.ndarray,
  bounds: tuple[float, float] = (0.0, np.inf),
  over: str = "seeds",
) -> Row:
  """Return the fields of a mean, with Student's interval.

  Args:
    metric: What was measured.
    values: float[n].
    bounds: Smallest and largest possible value.
    over: What the values are of.
  """
  low, high = mean_interval(values.astype(np.float64), bounds)
  ends = {"low": low, "high": high, "interval": f"Student's t over {over}"}
  return {"metric": metric, "value": float(values.mean())} | ends


def share(metric: str, hits: np.ndarray, over: str = "seeds") -> Row:
  """Return the fields of a share, with the exact interval.

  Args:
    metric: What was measured.
    hits: bool[n].
    over: What the values are of.
  """
  low, high = clopper_pearson(int(hits.sum()), hits.size)
  ends = {"low": low, "high": high, "interval": f"Clopper-Pearson over {over}"}
  return {"metric": metric, "value": float(hits.mean())} | ends
