"""Figures over seeds: means, and differences that the claims are about."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.capabilities.attackers import ATTACKS
from experiments.capabilities.training import MODELS
from keyjax.attacks.intervals import mean_interval

Row = dict[str, Any]
_T = "Student's t over seeds"
# What a figure is of.
NAMES = ("task", "who", "condition", "attack", "metric", "demonstrations")
# Of a prototype, one seed: fine-tuning, by demonstrations.
_BEFORE = {
  "locked": {0: 0.002, 8: 0.816, 32: 0.975, 128: 0.996, 512: 1.0},
  "routed": {0: 0.0, 8: 0.0, 32: 0.0, 128: 0.053, 512: 0.566},
  "never": {0: 0.0, 8: 0.0, 32: 0.016, 128: 0.170, 512: 0.758},
  "scratch": {8: 0.002, 32: 0.029, 128: 0.334, 512: 0.908},
}
# Who is compared: a tier without its key to a model that never learned it, and
# a tier with its key to a model without tiers.
_PAIRS = (
  (("routed", "no_key"), ("never", "no_key")),
  (("routed", "right"), ("unrouted", "plain")),
)


def over_seeds(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
  """Return the mean and interval of every figure, then the differences.

  Args:
    rows: Of `measure`, one for each seed.
  """
  groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
  for row in rows:
    groups.setdefault(tuple(row[x] for x in NAMES), []).append(row)
  return [
    *(_mean(found) for found in groups.values()),
    *_differences(groups),
  ]


def _mean(found: Sequence[Mapping[str, Any]]) -> Row:
  values = np.asarray([r["value"] for r in found], np.float64)
  low, high = mean_interval(values)
  first = {k: v for k, v in found[0].items() if k not in ("row", "setting")}
  return _named(first, found, values, low, high) | {
    "best": [r["setting"] for r in found if "setting" in r],
    "target": _target(found[0]),
  }


def _differences(
  groups: Mapping[tuple[Any, ...], Sequence[Mapping[str, Any]]],
) -> Iterator[Row]:
  """Yield how much the former of a pair is above the latter."""
  for names, found in groups.items():
    task, *who, attack, metric, count = names
    for first, second in _PAIRS:
      other = groups.get((task, *second, attack, metric, count))
      if tuple(who) != first or not other:
        continue
      pairs = zip(found, other, strict=True)
      values = np.asarray([a["value"] - b["value"] for a, b in pairs])
      low, high = mean_interval(values, (-1.0, 1.0))
      kept = {k: v for k, v in found[0].items() if k not in ("row", "setting")}
      yield _named(kept, found, values, low, high) | {
        "metric": f"{metric}, difference",
        "than": second[0],
      }


def _named(
  first: Mapping[str, Any],
  found: Sequence[Mapping[str, Any]],
  values: np.ndarray,
  low: float,
  high: float,
) -> Row:
  return dict(first) | {
    "title": MODELS[found[0]["who"]],
    "attack_title": _title(found[0]["attack"]),
    "value": float(values.mean()),
    "low": low,
    "high": high,
    "interval": _T,
    "values": [float(x) for x in values],
    "seed": [r["seed"] for r in found],
    "seeds": len(found),
  }


def _title(attack: str) -> str:
  return ATTACKS[attack].title if attack in ATTACKS else ""


def _target(row: Mapping[str, Any]) -> float | None:
  is_known = row["task"] == "digits" and row["metric"] == "restricted"
  if not is_known or row["condition"] != "no_key":
    return None
  count = row["demonstrations"]
  if row["attack"] not in ("fine_tune", "none"):
    return None
  return _BEFORE.get(row["who"], {}).get(count)


def attacks(
  rows: Sequence[Mapping[str, Any]],
) -> Iterator[tuple[str, str, str]]:
  """Yield task, attack and title of every table, without that of models.

  Args:
    rows: Of `over_seeds`.
  """
  pairs = dict.fromkeys((r["task"], r["attack"]) for r in rows)
  for task, attack in pairs:
    if attack != "none":
      yield task, attack, _title(attack)


def grid(
  rows: Sequence[Mapping[str, Any]], task: str, attack: str
) -> tuple[list[int], dict[str, list[Mapping[str, Any]]]]:
  """Return numbers of demonstrations, and rows by the title of a model.

  Args:
    rows: Of `over_seeds`.
    task: Name of a task.
    attack: Name of an attack.
  """
  by: dict[str, list[Mapping[str, Any]]] = {}
  counts: dict[int, None] = {}
  for row in rows:
    wanted = task, attack, "restricted"
    if (row["task"], row["attack"], row["metric"]) == wanted:
      by.setdefault(MODELS[row["who"]], []).append(row)
      counts[row["demonstrations"]] = None
  return list(counts), by
