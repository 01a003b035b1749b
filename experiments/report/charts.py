"""Charts of the report."""

import base64
import io
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import PIL.Image

from experiments.report.page import Html, element
from experiments.report.svg import (
  Frame,
  Scale,
  bar,
  chart,
  cross,
  diamond,
  dot,
  line,
  path,
  percent,
  round_ticks,
  short,
  x_axis,
  y_axis,
)

_ROW = 40  # Pixels of a row of `keys`.
_BINS = 25


class Estimate(NamedTuple):
  """A measured share with its interval.

  Attributes:
    value: Share, if it is known.
    low: Lower end of the interval.
    high: Upper end of the interval.
    proves: False where the share is the argmax of NaN.
  """

  value: float | None
  low: float | None = None
  high: float | None = None
  proves: bool = True


class Levels(NamedTuple):
  """Levels that accuracies are compared with; None if unknown."""

  plain: Estimate
  chance: float | None = None
  right: float | None = None


def _level(
  frame: Frame, value: float | None, class_: str, upright: bool = True
) -> list[Html]:
  """Return a line across the whole chart at an accuracy, if it is known."""
  if value is None:
    return []
  if upright:
    start = (value, frame.y.low)
    end = (value, frame.y.high)
  else:
    start = (frame.x.low, value)
    end = (frame.x.high, value)
  return [line(frame, start, end, class_)]


def keys(
  levels: Levels,
  right: Estimate,
  no_key: Estimate,
  mean: Estimate,
  wrong: Sequence[float],
) -> Html:
  """Draw one scheme's accuracies by key on a line from 0 to 100 %.

  Args:
    levels: Levels to compare with.
    right: Accuracy with the right key.
    no_key: Accuracy without a key.
    mean: Mean accuracy over wrong keys.
    wrong: Accuracy with each wrong key.
  """
  frame = Frame(Scale(0, 1), Scale(0, 1), _ROW)
  marks = [line(frame, (t / 4, 0), (t / 4, 1), "gridline") for t in range(5)]
  marks += _plain(frame, levels.plain)
  marks += _level(frame, levels.chance, "chance")
  if mean.proves:
    for i, x in enumerate(wrong):
      height = 0.5 + 0.34 * math.sin(2.4 * i)  # Spread; the same every time.
      tip = f"wrong key {i + 1}: {percent(x)}"
      marks.append(dot(frame, x, height, tip, "pale"))
    marks += _level(frame, mean.value, "line")
  elif mean.value is not None:
    marks.append(cross(frame, mean.value, 0.5, "wrong keys: mostly NaN"))
  marks += _estimate(frame, no_key, "no key", diamond)
  marks += _estimate(frame, right, "right key", _disc)
  unproven = [
    e.value for e in (no_key, mean) if not e.proves and e.value is not None
  ]
  if unproven:
    marks.append(_alarm(frame, max(unproven)))
  title = (
    f"Right key {percent(right.value)}, no key {percent(no_key.value)}, "
    f"mean of {len(wrong)} wrong keys {percent(mean.value)}"
  )
  return chart(frame, title, marks, "NaN: proves nothing" if unproven else "")


def _alarm(frame: Frame, x: float) -> Html:
  """Return the warning next to a cross."""
  left = x < 0.6
  return element(
    "text",
    "mostly NaN: proves nothing",
    x=frame.at(x),
    dx=12 if left else -12,
    y=frame.down(0.5),
    dy=4,
    text_anchor="start" if left else "end",
    class_="alarm",
  )


def _plain(frame: Frame, plain: Estimate) -> list[Html]:
  """Return the plain model's interval and accuracy as vertical marks."""
  marks = _level(frame, plain.value, "plain")
  if plain.low is not None and plain.high is not None:
    band = bar(frame, (plain.low, plain.high), 1, "plain model, 95 %", "band")
    marks.insert(0, band)
  return marks


def _disc(frame: Frame, x: float, y: float, tip: str) -> Html:
  return dot(frame, x, y, tip, r=6)


def _estimate(
  frame: Frame,
  estimate: Estimate,
  name: str,
  draw: Callable[[Frame, float, float, str], Html],
) -> list[Html]:
  """Return a mark with its interval, or a cross if it proves nothing."""
  if estimate.value is None:
    return []
  tip = f"{name}: {percent(estimate.value)}"
  if not estimate.proves:
    return [cross(frame, estimate.value, 0.5, f"{tip}, mostly NaN")]
  marks = [draw(frame, estimate.value, 0.5, tip)]
  if estimate.low is not None and estimate.high is not None:
    start = (estimate.low, 0.5)
    end = (estimate.high, 0.5)
    marks.insert(0, line(frame, start, end, "line"))
  return marks


def keys_axis() -> Html:
  """Draw the axis below the rows of `keys`."""
  frame = Frame(Scale(0, 1), Scale(0, 1), 1)
  ticks = [t / 4 for t in range(5)]
  axis = x_axis(frame, ticks, lambda t: percent(t, 0))
  return chart(frame, "axis: percent", axis)


def keys_legend(chance: bool) -> Html:
  """Return the legend of `keys`."""
  frame = Frame(Scale(0, 1), Scale(0, 1), 18)
  whole = Estimate(0.5, 0, 1)
  plain = Estimate(0.5, 0.2, 0.8)
  rows = [
    ("right key, 95 %", _estimate(frame, whole, "right key", _disc)),
    ("no key, 95 %", _estimate(frame, whole, "no key", diamond)),
    ("a wrong key", [dot(frame, 0.5, 0.5, "a wrong key", "pale")]),
    ("mean of wrong keys", _level(frame, 0.5, "line")),
    ("mostly NaN", [cross(frame, 0.5, 0.5, "mostly NaN")]),
    ("plain model, 95 %", _plain(frame, plain)),
  ]
  if chance:
    rows.append(("chance", _level(frame, 0.5, "chance")))
  items = [element("li", chart(frame, name, m), name) for name, m in rows]
  return element("ul", *items, class_="legend s1")


def spread(wrong: Sequence[float], mean: Estimate, levels: Levels) -> Html:
  """Draw a histogram of the accuracies of wrong keys; grey if NaN."""
  counts, edges = np.histogram(wrong, _BINS, (0, 1))
  most = max(*map(int, counts), 1)
  frame = Frame(Scale(0, 1), Scale(0, most), 96)
  marks = y_axis(frame, round_ticks(0, most, 2), short)
  class_ = "bar" if mean.proves else "before"
  for n, low, high in zip(map(int, counts), edges, edges[1:], strict=False):
    if n:
      tip = f"{n} keys from {percent(low, 0)} to {percent(high, 0)}"
      marks.append(bar(frame, (low, high), n, tip, class_))
  marks += _level(frame, levels.plain.value, "plain")
  marks += _level(frame, levels.chance, "chance")
  if mean.proves:
    marks += _level(frame, mean.value, "line")
  marks += x_axis(frame, (0, 0.5, 1), lambda t: percent(t, 0))
  title = f"{len(wrong)} wrong keys: mean {percent(mean.value)}"
  return _plot(chart(frame, title, marks))


class Near(NamedTuple):
  """Accuracies of keys at one distance from the right key."""

  distance: float
  accuracies: Sequence[float]
  proves: bool = True

  @property
  def mean(self) -> float:
    """Mean accuracy."""
    return sum(self.accuracies) / len(self.accuracies)


def near(points: Sequence[Near], unit: str, levels: Levels) -> Html:
  """Draw accuracy against distance, on a log scale."""
  distances = [p.distance for p in points]
  frame = Frame(Scale(min(distances), max(distances), log=True), Scale(0, 1))
  marks = y_axis(frame, (0, 0.5, 1), lambda t: f"{100 * t:.0f}")
  marks += _level(frame, levels.chance, "chance", upright=False)
  marks += _level(frame, levels.right, "right", upright=False)
  for p in points:
    for x in p.accuracies:
      tip = f"{short(p.distance)} {unit} off: {percent(x)}"
      if p.proves:
        marks.append(dot(frame, p.distance, x, tip, "pale"))
      else:
        marks.append(cross(frame, p.distance, x, f"{tip}, mostly NaN"))
  means = [(p.distance, p.mean) for p in points if p.proves]
  marks += path(frame, means)
  marks += [
    dot(frame, x, y, f"{short(x)} {unit} off: mean {percent(y)}", r=3.5)
    for x, y in means
  ]
  marks += x_axis(frame, distances, short, f"{unit} off")
  title = f"Percent against distance in {unit}"
  return _plot(chart(frame, title, marks), "plot named")


def weights(
  edges: Sequence[float], before: Sequence[int], after: Sequence[int]
) -> Html:
  """Draw two histograms side by side, with a log scale of counts."""
  most = max(*before, *after, 2)
  frame = Frame(
    Scale(edges[0], edges[-1]), Scale(0.6, most * 1.15, log=True), 190
  )
  ticks = [10**k for k in range(int(math.log10(most)) + 1)]
  marks = y_axis(frame, ticks, short)
  for i, (b, a) in enumerate(zip(before, after, strict=False)):
    low = edges[i]
    high = edges[i + 1]
    middle = (low + high) / 2
    where = f"from {low:.3g} to {high:.3g}"
    if b:
      tip = f"{b} weights before, {where}"
      marks.append(bar(frame, (low, middle), b, tip, "before"))
    if a:
      tip = f"{a} weights after, {where}"
      marks.append(bar(frame, (middle, high), a, tip))
    if a != b:
      marks.append(_change(frame, middle, max(a, b), a - b))
  marks += x_axis(frame, round_ticks(edges[0], edges[-1]), _signed)
  title = "Number of weights by value, before and after"
  return _plot(chart(frame, title, marks))


def _signed(value: float) -> str:
  return f"{value:.2g}".replace("-", "\N{MINUS SIGN}")


def _change(frame: Frame, x: float, y: float, change: int) -> Html:
  """Return a triangle above a bin: up if it gained, down if it lost."""
  shape = "M-4-5H4L0-11Z" if change > 0 else "M-4-11H4L0-5Z"
  tip = element("title", f"{_signed(change)} weights")
  mark = element("path", tip, d=shape)
  return element("svg", mark, class_="ink", x=frame.at(x), y=frame.down(y))


def curve(points: Sequence[tuple[float, float]], name: str) -> Html | None:
  """Draw (step, value) over training; a loss on a log scale."""
  loss = name == "loss"
  points = [(s, v) for s, v in points if v > 0 or not loss]
  if not points:
    return None
  last = points[-1][0]
  values = [v for _, v in points]
  low = 0.0
  high = 1.0
  if loss:
    low = 10.0 ** math.floor(math.log10(min(values)))
    high = max(10.0 ** math.ceil(math.log10(max(values))), 10 * low)
  frame = Frame(Scale(0, last), Scale(low, high, loss), 64)
  show = "{:g}".format if loss else lambda v: f"{100 * v:.0f}"
  marks = y_axis(frame, (low, high), show) + path(frame, points)
  marks += [
    dot(frame, s, v, f"step {s:g}: {name} {v:.3g}", r=2) for s, v in points
  ]
  marks += x_axis(
    frame, round_ticks(0, last, 3), "{:g}".format, f"{name} by step"
  )
  title = f"{name} over {last:g} steps"
  return _plot(chart(frame, title, marks), "plot named")


def _plot(drawn: Html, class_: str = "plot") -> Html:
  return element("div", drawn, class_=class_)


def images(pixels: Any, label: str) -> Html:
  """Return a row of small images, uint8[n, h, w, c], sharp at any zoom."""
  made = []
  for i, pixel in enumerate(np.asarray(pixels, np.uint8)):
    image = PIL.Image.fromarray(
      pixel[..., 0] if pixel.shape[-1] == 1 else pixel
    )
    file = io.BytesIO()
    image.save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    made.append(
      element(
        "img", src=f"data:image/png;base64,{data}", alt=f"{label} {i + 1}"
      )
    )
  return element("div", *made, class_="strip")
