"""Chart of a figure against a number, with one line for each group."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.report.page import Html, element
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

_APART = 0.008  # Of lines, as a share of the axis.


class At(NamedTuple):
  """A figure, with its interval.

  Attributes:
    x: Where it is on the horizontal axis.
    value: Figure.
    low: Lower end of the interval.
    high: Upper end of the interval.
  """

  x: float
  value: float
  low: float
  high: float


def curves(
  lines: Mapping[tuple[str, str], Sequence[At]],
  title: str,
  unit: str,
  *,
  top: float = 1.0,
  log: bool = False,
) -> Html:
  """Draw a line for each group, with whiskers.

  Args:
    lines: Figures in the order of x, by (name, class of the colour).
    title: Label for screen readers.
    unit: What x is.
    top: End of the vertical axis, which starts at 0.
    log: Whether the horizontal axis is logarithmic.
  """
  xs = sorted({at.x for points in lines.values() for at in points})
  least = min((b - a for a, b in itertools.pairwise(xs)), default=0.0)
  # All lines together take less than half of the way to the next point.
  shift = min(_APART * (xs[-1] - xs[0]), 0.4 * least / len(lines))
  ends = (xs[0], xs[-1]) if log else (xs[0] - 4 * shift, xs[-1] + 4 * shift)
  frame = Frame(Scale(*ends, log=log), Scale(0, top), 170)
  marks = y_axis(frame, (0, top / 2, top), "{:g}".format)
  for i, ((name, color), points) in enumerate(lines.items()):
    apart = 0 if log else shift * (i - (len(lines) - 1) / 2)
    drawn = path(frame, [(at.x + apart, at.value) for at in points])
    for at in points:
      x, tip = at.x + apart, f"{name}, {unit} {at.x:g}: {at.value:.3f}"
      drawn.append(line(frame, (x, at.low), (x, at.high), "whisker"))
      tip += f" ({at.low:.3f} to {at.high:.3f})"
      drawn.append(dot(frame, x, at.value, tip))
    marks.append(element("g", *drawn, class_=color))
  marks += x_axis(frame, xs, "{:g}".format, unit)
  return element("div", chart(frame, title, marks), class_="plot named")


def legend(names: Sequence[tuple[str, str]]) -> Html:
  """Return the legend of lines, (name, class of the colour)."""
  items = [
    element("li", element("b", name), class_=f"name {color}")
    for name, color in names
  ]
  return element("ul", *items, class_="legend")
