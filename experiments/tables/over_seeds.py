"""Rows over several seeds: means, deviations, intervals and provenance."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.run import results
from experiments.tables import published
from experiments.tables.runs import Run
from keyjax.attacks.intervals import mean_interval

Row = dict[str, Any]
_SAME = ("config", "dataset", "model", "scheme", "title", "mechanism")
# Rows of older runs do not have these.
_TASK = ("unit_of_labels", "judged_by", "chance")
_POINTS = 100.0  # A drop is in points, an accuracy is a share.


def rows(runs: Sequence[Run]) -> list[Row]:
  """Return a row for each scheme and measurement, over all seeds.

  Args:
    runs: Runs of one config.

  Returns:
    Rows like those of `experiments.run.results`: `value` is the mean (of
    seconds the median), `sd` the standard deviation, `low` and `high` its 95 %
    interval; `values` has a value per seed. Rows of near keys are left out.
  """
  return [_row(list(found), runs) for found in _measured(runs)]


def _measured(runs: Sequence[Run]) -> Iterator[Sequence[Row]]:
  """Yield each measurement that a run makes once, from every run."""
  for row in runs[0].rows:
    if row["condition"] == "near":  # Several distances, drawn in the report.
      continue
    names = {k: row[k] for k in ("scheme", "condition", "metric")}
    yield [_find(run, names) for run in runs]


def _find(run: Run, names: Mapping[str, Any]) -> Row:
  for row in run.rows:
    if all(row[k] == v for k, v in names.items()):
      return row
  raise ValueError(f"{run.folder} has no row with {dict(names)}")


def _row(found: list[Row], runs: Sequence[Run]) -> Row:
  first = found[0]
  made = {k: first[k] for k in _SAME}
  made |= {k: first[k] for k in ("options", "condition", "metric")}
  made |= {k: first[k] for k in _TASK if k in first}
  judges = results.judges(first)
  made |= summary(first["metric"], [x["value"] for x in found], judges)
  made |= _counts(found)
  return made | {
    "papers": published.report(first),
    "seeds": [run.seed for run in runs],
    "command": [without_folders(x["command"]) for x in found],
    "commit": [x["commit"] for x in found],
    "hardware": [x["hardware"] for x in found],
    "jax": [x["jax"] for x in found],
    "date": [x["date"] for x in found],
  }


def summary(metric: str, values: list[Any], judges: bool = False) -> Row:
  """Return the value over seeds; for a single seed, without an interval.

  Args:
    metric: What the values are.
    values: One a seed.
    judges: Whether it is the metric by which models are judged.
  """
  made: Row = {"values": values, "value": None, "sd": None}
  made |= {"low": None, "high": None, "interval": ""}
  if None in values:  # A perplexity that is not finite.
    return made
  if metric.endswith("seconds"):
    return median(values)
  array = np.asarray(values, np.float64)
  made["value"] = float(np.mean(array))
  if len(values) > 1:
    made["sd"] = float(np.std(array, ddof=1))
  # If all values are equal, the seeds give no interval.
  if np.ptp(array) > 0 and (judges or metric == "drop"):
    low, high = _interval(metric, array)
    made |= {"low": low, "high": high}
    made["interval"] = "Student t over seeds"
  return made


def median(values: Sequence[float]) -> Row:
  """Return the median, range and standard deviation over seeds."""
  low, value, high = np.quantile(values, (0, 0.5, 1)).tolist()
  return {
    "values": list(values),
    "value": value,
    "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
    "low": low,
    "high": high,
    "interval": "median and range over seeds",
  }


def _interval(metric: str, values: np.ndarray) -> tuple[float, float]:
  if metric == "drop":
    return mean_interval(values, (-_POINTS, _POINTS))
  return mean_interval(values, (min(0.0, values.min()), 1.0))


def _counts(found: list[Row]) -> Row:
  """Return the largest accuracy, and non-finite counts, over all seeds."""
  made: Row = {}
  if "nonfinite" in found[0]:
    made["keys"] = found[0]["keys"]
    made["seen"] = sum(x["images"] * x["keys"] for x in found)
    made["nonfinite"] = sum(x["nonfinite"] for x in found)
  if "max" in found[0]:
    made["max"] = max(x["max"] for x in found)
    made["max_mean"] = float(np.mean([x["max"] for x in found]))
  if "nonfinite_weights" in found[0]:
    made["nonfinite_weights"] = [x["nonfinite_weights"] for x in found]
  return made


def without_folders(command: str) -> str:
  """Keep only the last name of every path: the folder of a run is irrelevant.

  Example:
    >>> without_folders("python -m experiments.main --workdir=/disk/runs/a")
    'python -m experiments.main --workdir=a'
  """
  return re.sub(r"(?<==)(gs:/)?/\S*/", "", command)


def origin(rows: Sequence[Mapping[str, Any]]) -> str:
  """Say where the rows of a table come from, as an item of a list."""
  seeds = ", ".join(map(str, rows[0]["seeds"]))
  commits = ", ".join(dict.fromkeys(x for r in rows for x in r["commit"]))
  hardware = "; ".join(dict.fromkeys(x for r in rows for x in r["hardware"]))
  dates = sorted(x[:10] for r in rows for x in r["date"])
  return (
    f"- `{rows[0]['config']}`: seeds {seeds}; commits {commits}; {hardware}; "
    f"{' to '.join(dict.fromkeys((dates[0], dates[-1])))}."
  )
