"""SVG inside a page, with no script and no viewBox.

Horizontal positions are percent and vertical ones pixels, so a chart stretches
to any width while text, dots and lines keep their size. Colours are CSS
classes: `s3` on an ancestor colours every mark of the third scheme. Marks have
tooltips (`title`), and charts have labels for screen readers.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from matplotlib.ticker import MaxNLocator

from experiments.report.page import Html, element

THIN = "\N{NARROW NO-BREAK SPACE}"
_APART = 0.06  # Least distance of the texts of two ticks, as a share.


class Scale(NamedTuple):
  """Function from a value to its share of an axis.

  Example:
    >>> Scale(0, 10)(4)
    0.4
    >>> Scale(1, 100, log=True)(10)
    0.5
  """

  low: float
  high: float
  log: bool = False

  def __call__(self, value: float) -> float:
    """Return the share."""
    low, high, value = (
      math.log(max(x, 1e-12)) if self.log else x
      for x in (self.low, self.high, value)
    )
    return (value - low) / (high - low) if high > low else 0.5


class Frame(NamedTuple):
  """The axes of a chart."""

  x: Scale
  y: Scale
  height: int = 130

  def at(self, x: float) -> str:
    """Return a horizontal position."""
    return f"{100 * self.x(x):.2f}%"

  def down(self, y: float) -> str:
    """Return a vertical position."""
    return f"{self.height * (1 - self.y(y)):.1f}"


def percent(value: float | None, digits: int = 1) -> str:
  """Return a share in percent.

  Example:
    >>> percent(0.5).replace("\N{NARROW NO-BREAK SPACE}", " ")
    '50.0 %'
    >>> percent(None)
    '–'
  """
  return "–" if value is None else f"{100 * value:.{digits}f}{THIN}%"


def short(value: float) -> str:
  """Return a count for an axis.

  Example:
    >>> [short(x) for x in (256, 4096, 1500000)]
    ['256', '4.1k', '1.5M']
  """
  for size, suffix in ((1e6, "M"), (1e3, "k")):
    if value >= size:
      return f"{value / size:.1f}".removesuffix(".0") + suffix
  return f"{value:g}"


def chart(
  frame: Frame, title: str, marks: Iterable[Html], description: str = ""
) -> Html:
  """Return a chart with a label for screen readers."""
  return element(
    "svg",
    element("desc", description or title),
    *marks,
    role="img",
    aria_label=title,
    height=frame.height,
  )


def line(
  frame: Frame, a: tuple[float, float], b: tuple[float, float], class_: str
) -> Html:
  """Return a straight line from (x, y) to (x, y)."""
  return element(
    "line",
    x1=frame.at(a[0]),
    y1=frame.down(a[1]),
    x2=frame.at(b[0]),
    y2=frame.down(b[1]),
    class_=class_,
  )


def path(frame: Frame, points: Sequence[tuple[float, float]]) -> list[Html]:
  """Return lines through points."""
  pairs = zip(points, points[1:], strict=False)
  return [line(frame, a, b, "line") for a, b in pairs]


def dot(
  frame: Frame, x: float, y: float, tip: str, class_: str = "dot", r: float = 3
) -> Html:
  """Return a dot with a tooltip."""
  position = {"cx": frame.at(x), "cy": frame.down(y)}
  return element(
    "circle", element("title", tip), r=r, class_=class_, **position
  )


def cross(frame: Frame, x: float, y: float, tip: str) -> Html:
  """Return the mark of a value that proves nothing."""
  shape = element("path", element("title", tip), d="M-4-4L4 4M-4 4L4-4")
  position = {"x": frame.at(x), "y": frame.down(y)}
  return element("svg", shape, class_="cross", **position)


def diamond(frame: Frame, x: float, y: float, tip: str) -> Html:
  """Return a hollow diamond."""
  shape = element("path", element("title", tip), d="M-6 0L0-6L6 0L0 6Z")
  position = {"x": frame.at(x), "y": frame.down(y)}
  return element("svg", shape, class_="hollow", **position)


def bar(
  frame: Frame, x: tuple[float, float], y: float, tip: str, class_: str = "bar"
) -> Html:
  """Return a bar from the bottom of the frame up to `y`."""
  top = min(frame.height * (1 - frame.y(y)), frame.height)
  return element(
    "rect",
    element("title", tip),
    x=frame.at(x[0]),
    y=f"{top:.1f}",
    width=f"{100 * (frame.x(x[1]) - frame.x(x[0])):.2f}%",
    height=f"{frame.height - top:.1f}",
    class_=class_,
  )


def round_ticks(low: float, high: float, most: int = 5) -> list[float]:
  """Return round numbers in a range: `most` of them or a few less.

  Example:
    >>> round_ticks(-0.43, 11.0)
    [0.0, 2.5, 5.0, 7.5, 10.0]
    >>> round_ticks(0, 29, 2)
    [0.0, 20.0]
  """
  ticks = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
  return [float(t) for t in ticks if low <= t <= high]


def x_axis(
  frame: Frame,
  ticks: Iterable[float],
  show: Callable[[float], str],
  unit: str = "",
) -> list[Html]:
  """Return the bottom line, with ticks and their unit.

  A tick that is too close to the one before it is left out.
  """
  below = frame.height + 15
  marks = [
    element(
      "line",
      x1="0",
      y1=frame.height,
      x2="100%",
      y2=frame.height,
      class_="baseline",
    )
  ]
  marks += [
    element("text", show(t), x=frame.at(t), y=below, text_anchor="middle")
    for t in _apart(frame, ticks)
  ]
  if unit:
    marks.append(
      element("text", unit, x="100%", y=below + 14, text_anchor="end")
    )
  return marks


def _apart(frame: Frame, ticks: Iterable[float]) -> Iterator[float]:
  """Yield the ticks whose texts do not overlap."""
  last = -math.inf
  for tick in ticks:
    at = frame.x(tick)
    if abs(at - last) >= _APART:
      last = at
      yield tick


def y_axis(
  frame: Frame, ticks: Iterable[float], show: Callable[[float], str]
) -> list[Html]:
  """Return horizontal lines, with labels at their left."""
  low = frame.x.low
  high = frame.x.high
  marks = []
  for tick in ticks:
    marks.append(line(frame, (low, tick), (high, tick), "gridline"))
    marks.append(
      element(
        "text",
        show(tick),
        x="0",
        y=frame.down(tick),
        dx=-6,
        dy=4,
        text_anchor="end",
      )
    )
  return marks
