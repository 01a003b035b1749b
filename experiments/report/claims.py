"""Studies of published claims in a report: tables and curves over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report.curves import At, curves, legend
from experiments.report.page import Html, element
from experiments.report.robustness_tables import cell, table
from experiments.report.style import NUM_COLORS
from experiments.report.view import DASH, count, number
from experiments.tables import survey

Row = Mapping[str, Any]
OVER_SEEDS = (
  "Each study is run with several seeds, which change the trained networks as "
  "well: the mean, and the least and greatest value. Shares are from 0 to 1."
)
_WIDE = 30  # Ratio of the ends of an axis from which on it is logarithmic.


def by_study(rows: Sequence[Row]) -> dict[str, list[Row]]:
  """Return the figures over seeds of each study."""
  groups: dict[str, list[Row]] = {}
  for r in survey.over_seeds(rows):
    groups.setdefault(r["study"], []).append(r)
  return groups


def figures(members: Sequence[Row]) -> Html:
  """Return the table of a study."""
  return table(
    members[0]["study_title"],
    ("figure", "mean", "over seeds", "seeds", "examples", "published"),
    [(r["title"], _cells(r)) for r in survey.in_tables(members)],
    "words",
    560,
  )


def _cells(row: Row) -> list[Html]:
  ends = [_digits(row[k]) for k in ("low", "high")]
  return [
    cell(_digits(row["value"])),
    element("td", " to ".join(dict.fromkeys(ends))),
    element("td", count(len(row["seeds"]))),
    element("td", count(row["images"])),
    element("td", row["target"] or DASH),
  ]


def _digits(value: float) -> str:
  found = number(value)
  return DASH if found is None else f"{found:.3g}"


def lines(members: Sequence[Row]) -> dict[str, list[Row]]:
  """Return the points of each curve of a study, in the order of x.

  Lines of one point are left out.
  """
  found: dict[str, list[Row]] = {}
  for r in sorted(
    (r for r in members if r.get("curve")), key=lambda r: float(r["x"])
  ):
    found.setdefault(r["curve"], []).append(r)
  return {name: own for name, own in found.items() if len(own) > 1}


def drawing(members: Sequence[Row]) -> list[Html]:
  """Return the legend and the curves of a study; nothing if it has none."""
  found = lines(members)
  if not found:
    return []
  names = [
    (name, f"s{i % (NUM_COLORS - 1) + 1}") for i, name in enumerate(found)
  ]
  drawn = {
    name: [At(r["x"], r["value"], r["low"], r["high"]) for r in found[name[0]]]
    for name in names
  }
  xs = [at.x for points in drawn.values() for at in points]
  top = max(1.0, *(at.high for points in drawn.values() for at in points))
  first = found[names[0][0]][0]
  made = curves(
    drawn,
    f"{first['study_title']}: figures against {first['axis']}",
    first["axis"],
    top=top,
    log=min(xs) > 0 and max(xs) > _WIDE * min(xs),
  )
  return [legend(names), element("figure", made)]
