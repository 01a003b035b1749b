"""Chart of one figure by layer of a network, with one line per condition."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.report.page import Html, element
from experiments.report.svg import (
  Frame,
  Scale,
  chart,
  cross,
  dot,
  line,
  path,
  percent,
  x_axis,
  y_axis,
)


class Point(NamedTuple):
  """A figure at one position in a network, with its interval.

  Attributes:
    group: Layer, which the axis names.
    name: Position, for the tooltip.
    value: Figure, or None where there is none.
    low: Lower end of the interval.
    high: Upper end of the interval.
    note: Reason why there is no figure.
  """

  group: str
  name: str
  value: float | None
  low: float | None
  high: float | None
  note: str = ""


def layered(
  lines: Mapping[tuple[str, str], Sequence[Point]], title: str, low: float
) -> Html:
  """Draw lines from the first layer to the last, in percent.

  Args:
    lines: Points in the order of the layers, by (name, class of the colour);
      all lines have the same positions.
    title: Label for screen readers.
    low: Start of the axis, which ends at 1.
  """
  positions = next(iter(lines.values()), [])
  ends = [p.low for points in lines.values() for p in points if p.low]
  low = min(low, *ends) if ends and min(ends) < low else low
  frame = Frame(Scale(-0.4, len(positions) - 0.6), Scale(low, 1), 150)
  ticks = (max(low, 0.0), (max(low, 0.0) + 1) / 2, 1.0)
  marks = y_axis(frame, ticks, lambda t: f"{100 * t:.0f}")
  marks += x_axis(frame, (), str)
  marks += _layers(frame, positions)
  shift = 0.08
  for i, ((name, color), points) in enumerate(lines.items()):
    at = shift * (i - (len(lines) - 1) / 2)
    drawn = [
      mark
      for x, point in enumerate(points)
      for mark in _mark(frame, x + at, point, name)
    ]
    runs = _runs(points, at)
    joined = [mark for run in runs for mark in path(frame, run)]
    marks.append(element("g", *joined, *drawn, class_=color))
  return element("div", chart(frame, title, marks), class_="plot named")


def _runs(
  points: Sequence[Point], shift: float
) -> list[list[tuple[float, float]]]:
  """Return the stretches without a missing figure."""
  runs: list[list[tuple[float, float]]] = [[]]
  for x, point in enumerate(points):
    if point.value is None:
      runs.append([])
    else:
      runs[-1].append((x + shift, point.value))
  return runs


def _mark(frame: Frame, x: float, point: Point, name: str) -> list[Html]:
  where = f"{name}, {point.name}"
  if point.value is None:
    return [cross(frame, x, frame.y.low, f"{where}: {point.note}")]
  tip = f"{where}: {percent(point.value)}"
  marks = [dot(frame, x, point.value, tip)]
  if point.low is not None and point.high is not None:
    tip += f" ({percent(point.low)} to {percent(point.high)})"
    whisker = line(frame, (x, point.low), (x, point.high), "whisker")
    marks = [whisker, dot(frame, x, point.value, tip)]
  return marks


def _layers(frame: Frame, positions: Sequence[Point]) -> list[Html]:
  """Return the layers' names below their positions, alternately lower."""
  groups: dict[str, list[int]] = {}
  for x, point in enumerate(positions):
    groups.setdefault(point.group, []).append(x)
  few = len(groups) <= 6
  return [
    element(
      "text",
      name,
      x=frame.at(sum(at) / len(at)),
      y=frame.height + 15 + (0 if few else 13 * (i % 2)),
      text_anchor="middle",
    )
    for i, (name, at) in enumerate(groups.items())
    if few or len(groups) <= 12 or i % 4 == 0
  ]
