"""Tables of KeyJAX's attacks against AutoAttack and Foolbox in PyTorch."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.tables import headlines, markdown

_NETWORKS = {
  "mnist": "MNIST",
  "mnist robust": "MNIST, robust",
  "gtsrb": "GTSRB",
  "gtsrb robust": "GTSRB, robust",
}
_ATTACKS = {
  "apgd_ce": "APGD-CE",
  "apgd_t": "APGD-T",
  "fab_t": "FAB-T",
  "square": "Square",
  "square_all": "Square, at every place",
  "ensemble": "all four: AutoAttack",
  "pgd": "PGD",
  "deepfool": "DeepFool",
  "carlini_wagner": "Carlini-Wagner",
}

Row = Mapping[str, Any]


def parity(results: pathlib.Path) -> list[str]:
  """Return tables of accuracies, and of distances, with speeds in both."""
  rows = headlines.read(results / "parity.json")
  if not rows:
    return []
  speeds = {_key(row): row for row in rows if row["unit"] == "x"}
  reached = [row for row in rows if row["unit"] != "x"]
  made = []
  for unit, what in (
    ("points", "accuracy, %: KeyJAX"),
    ("%", "median distance: KeyJAX"),
  ):
    own = [row for row in reached if row["unit"] == unit]
    difference = "difference, points" if unit == "points" else "difference, %"
    head = (
      "network",
      "ball",
      "attack",
      "images, seeds",
      what,
      "reference",
      difference,
      "images/s: KeyJAX",
      "reference",
      "times",
      "compilation, s",
    )
    cells = [_cells(row, speeds.get(_key(row))) for row in own]
    made += [*markdown.lines(head, cells), ""] if own else []
  runs = {row["command"]: row for row in rows}
  return [*made, *map(_origin, runs.values())]


def _key(row: Row) -> tuple[Any, ...]:
  return tuple(row["case"].values())


def _cells(row: Row, speed: Row | None) -> list[str]:
  case = row["case"]
  scale, digits = (100, 1) if row["unit"] == "points" else (1, 3)
  return [
    _NETWORKS[case["network"]],
    case["norm"] + (f" {case['epsilon']:.3g}" if case["epsilon"] else ""),
    _ATTACKS[case["attack"]],
    f"{case['n']:,}, {case['seeds']}",
    _spread(row["keyjax"], scale, digits),
    _spread(row["reference"], scale, digits),
    f"{row['value']:+.2f}",
    *(_speed(speed) if speed else [""] * 4),
  ]


def _speed(row: Row) -> list[str]:
  return [
    _rate(row["keyjax"]),
    _rate(row["reference"]),
    f"{row['value']:.2f}",
    f"{row['compilation']:.1f}",
  ]


def _spread(values: Sequence[float], scale: float, digits: int) -> str:
  """Return `41.2 (41.0 to 41.5)`: the mean, and the range over seeds."""
  mean = sum(values) / len(values)
  found = (mean, min(values), max(values))
  value, low, high = (f"{scale * x:.{digits}f}" for x in found)
  return value if low == high else f"{value} ({low} to {high})"


def _rate(values: Sequence[float]) -> str:
  return f"{sorted(values)[len(values) // 2]:.3g}"


def _origin(row: Row) -> str:
  versions = ", ".join(f"{k} {v}" for k, v in row["versions"].items())
  return (
    f"- `{row['command']}`: commit {row['commit']}; {row['hardware']}; "
    f"{row['date'][:10]}; jax {row['jax']}, {versions}; means and ranges over "
    "seeds, medians of speeds."
  )
