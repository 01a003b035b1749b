"""Figures over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keyjax.attacks.intervals import clopper_pearson, mean_interval

Row = dict[str, Any]
# What a figure is of.
NAMES = (
  "part",
  "model",
  "scheme",
  "scene",
  "condition",
  "attack",
  "metric",
)
_ONLINE = ("answers", "passes")
_BOUNDS = {"psnr": (0.0, 100.0), "ssim": (-1.0, 1.0), "distance": (0.0, np.inf)}


def over_seeds(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
  """Return the mean of every figure, with an interval.

  It is that of Student's t over seeds; of the share of images that are named,
  that of Clopper and Pearson over all images.

  Args:
    rows: Of `measure`, one for each seed.
  """
  groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
  for row in rows:
    place = [row[x] for x in NAMES] + [row.get(x) for x in _ONLINE]
    groups.setdefault(tuple(place), []).append(row)
  return [_mean(found) for found in groups.values()]


def _mean(found: Sequence[Mapping[str, Any]]) -> Row:
  values = np.asarray([r["value"] for r in found], np.float64)
  metric, total = found[0]["metric"], sum(r["images"] for r in found)
  if metric == "named":
    hits = round(sum(r["value"] * r["images"] for r in found))
    low, high = clopper_pearson(hits, total)
    how = f"Clopper-Pearson over {total} images"
  else:
    low, high = mean_interval(values, _BOUNDS.get(metric, (0.0, 1.0)))
    how = "Student's t over seeds"
  dropped = ("row", "seed")
  return {k: v for k, v in found[0].items() if k not in dropped} | {
    "value": float(values.mean()),
    "low": min(low, float(values.mean())),
    "high": max(high, float(values.mean())),
    "interval": how,
    "values": [float(x) for x in values],
    "seeds": len(found),
    "images": total,
    **_counted(found),
    "commit": ", ".join(dict.fromkeys(r["commit"] for r in found)),
  }


def _counted(found: Sequence[Mapping[str, Any]]) -> Row:
  """Return the NaN scores of a seed, in the mean, if rows count them."""
  counts = [r["nan"] for r in found if "nan" in r]
  return {"nan": float(np.mean(counts))} if counts else {}


def scenes(rows: Sequence[Row]) -> dict[tuple[str, ...], dict[str, Row]]:
  """Return figures of gradients by metric, by what they are of.

  Args:
    rows: Of `over_seeds`.

  Returns:
    By title of the model, scene, condition and title of the attack.
  """
  by: dict[tuple[str, ...], dict[str, Row]] = {}
  for r in rows:
    if r["part"] == "gradients":
      place = (r["title"], r["scene"], r["condition"], r["attack_title"])
      by.setdefault(place, {})[r["metric"]] = r
  return by


def online(rows: Sequence[Row]) -> dict[tuple[str, ...], dict[str, Row]]:
  """Return figures of on-line learning by metric, by what they are of.

  Args:
    rows: Of `over_seeds`.

  Returns:
    By title of the lock, how the model learned, condition of who reads it, and
    title of the attack.
  """
  by: dict[tuple[str, ...], dict[str, Row]] = {}
  for r in rows:
    if r["part"] == "online":
      place = (r["title"], learned(r), r["condition"], r["attack_title"])
      by.setdefault(place, {})[r["metric"]] = r
  return by


def learned(row: Mapping[str, Any]) -> str:
  """Return how a model learned on-line, in words.

  Example:
    >>> learned({"passes": 0}), learned({"passes": 3, "answers": "own"})
    ('frozen', '3 passes, its own answers')
  """
  if not row["passes"]:
    return "frozen"
  passes = "1 pass" if row["passes"] == 1 else f"{row['passes']} passes"
  what = {"told": "the right answers", "own": "its own answers"}
  return f"{passes}, {what[row['answers']]}"
