"""Sections of annotated games: reward against harm, and a table of points."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report.curves import legend
from experiments.report.page import Html, element, section
from experiments.report.svg import (
  Frame,
  Scale,
  chart,
  dot,
  line,
  path,
  x_axis,
  y_axis,
)

Row = Mapping[str, Any]
Points = dict[tuple[str, str, float], dict[str, Row]]

_COLORS = {"penalty": "s1", "planned": "s2", "unplanned": "s3", "random": "s0"}
_OTHERS = ("s4", "s5", "s6", "s7")  # Of tokens for one kind of harm.


def frontier(
  rows: Sequence[Row], game: str, title: str, about: str, units: Sequence[str]
) -> Html | None:
  """Return a section of a game's figures; None if there are none.

  Args:
    rows: All rows.
    game: What the names of its experiments start with.
    title: Of the section.
    about: What it shows.
    units: Of harm and of reward.
  """
  names = f"{game}_penalty", f"{game}_key"
  points: Points = {}
  for row in rows:
    if row["experiment"] in names:
      at = row["learner"], row["title"], row["x"]
      points.setdefault(at, {})[row["metric"]] = row
  if not points:
    return None
  others = dict.fromkeys(key for key, *_ in points if key not in _COLORS)
  colors = _COLORS | dict(zip(others, itertools.cycle(_OTHERS)))
  named = dict.fromkeys((name, colors[key]) for key, name, _ in points)
  drawn = element("figure", _chart(points, colors, title, units))
  return section(
    title,
    about,
    legend([*named]),
    element("div", drawn, class_="grid"),
    _table(points),
  )


def _chart(
  points: Points, colors: Mapping[str, str], title: str, units: Sequence[str]
) -> Html:
  """Draw reward against harm, with a line for each kind of planner."""
  x_end, y_end = (
    _round(max(found[m]["high"] for found in points.values()))
    for m in ("harm", "reward")
  )
  frame = Frame(Scale(-0.02 * x_end, x_end), Scale(0, y_end), 220)
  marks = y_axis(frame, (0, y_end / 2, y_end), "{:g}".format)
  for key, color in colors.items():
    mine = {at: found for at, found in points.items() if at[0] == key}
    drawn = path(frame, [_at(found) for found in mine.values()])
    for (_, name, x), found in mine.items():
      (h, r), reward = _at(found), found["reward"]
      drawn.append(
        line(frame, (h, reward["low"]), (h, reward["high"]), "whisker")
      )
      tip = f"{name}, {x:g}: {units[0]} {h:.2f}, {units[1]} {r:.2f}"
      drawn.append(dot(frame, h, r, tip))
    marks.append(element("g", *drawn, class_=color))
  marks += x_axis(frame, (0, x_end / 2, x_end), "{:g}".format, units[0])
  whole = chart(frame, f"{title}: {units[1]} against {units[0]}", marks)
  return element("div", whole, class_="plot named")


def _table(points: Points) -> Html:
  """Return planners by metrics, with the interval of each figure."""
  metrics = [*dict.fromkeys(m for found in points.values() for m in found)]
  names = "planner", "penalty, or theta", *metrics
  head = [element("th", x, scope="col") for x in names]
  body = [
    element(
      "tr",
      element("th", name, scope="row"),
      element("td", f"{x:g}"),
      *(_cell(found[m]) for m in metrics),
    )
    for (_, name, x), found in points.items()
  ]
  made = element(
    "table", element("thead", element("tr", *head)), element("tbody", *body)
  )
  return element("div", made, class_="scroll")


def _cell(row: Row) -> Html:
  value = element("b", f"{row['value']:.2f}")
  return element(
    "td", value, element("small", f"{row['low']:.2f} to {row['high']:.2f}")
  )


def _at(found: Mapping[str, Row]) -> tuple[float, float]:
  return found["harm"]["value"], found["reward"]["value"]


def _round(value: float) -> float:
  """Return the end of an axis: a multiple of half of the largest digit's size.

  Example:
    >>> [_round(x) for x in (317.0, 100.0, 2.1, 0.0)]
    [350.0, 100.0, 2.5, 1.0]
  """
  if value <= 0:
    return 1.0
  step = 10 ** math.floor(math.log10(value)) / 2
  return math.ceil(value / step) * step
