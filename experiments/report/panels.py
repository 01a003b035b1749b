"""Panels of the report: its charts and their captions."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.report import charts
from experiments.report.charts import Levels, Near
from experiments.report.page import Html, element, section
from experiments.report.svg import percent
from experiments.report.view import (
  Scheme,
  count,
  metric_words,
  number,
  numbers,
  points,
  span,
)

_NOTHING = "argmax of NaN, proves nothing"


def by_key(
  schemes: Sequence[Scheme], levels: Levels, note: str = ""
) -> Html | None:
  """Draw right key, no key and wrong keys, a row per scheme; a note below."""
  if not schemes:
    return None
  metric = metric_words(schemes)
  rows = []
  for s in schemes:
    drawn = charts.keys(
      levels,
      right=s.estimate("right"),
      no_key=s.estimate("no_key"),
      mean=s.estimate("wrong"),
      wrong=numbers(s.figures.get("wrong")),
    )
    rows.append(_key_row(element("h3", s.title), drawn, s.color))
  return section(
    f"{metric[0].upper()}{metric[1:]} by key",
    "A lock works when the right key is where the plain model is and all other "
    "marks are far to the left.",
    charts.keys_legend(levels.chance is not None),
    element(
      "figure",
      *rows,
      _key_row(element("div"), charts.keys_axis(), "axis"),
      class_="keys",
    ),
    *([element("p", note, class_="soft")] if note else []),
  )


def _key_row(name: Html, drawn: Html, class_: str) -> Html:
  return element("div", name, drawn, class_=f"key {class_}")


def spreads(schemes: Sequence[Scheme], levels: Levels) -> Html | None:
  """Draw the distribution over wrong keys, a panel per scheme."""
  shown = [s for s in schemes if numbers(s.figures.get("wrong"))]

  def draw(s: Scheme) -> tuple[str, Html]:
    wrong = numbers(s.figures["wrong"])
    mean = s.estimate("wrong")
    caption = f"{len(wrong)} keys: {span(wrong)}, mean {percent(mean.value)}"
    drawn = charts.spread(wrong, mean, levels)
    return caption if mean.proves else _NOTHING, drawn

  dotted = "Dotted: chance. " if levels.chance is not None else ""
  return _panels(
    "Every wrong key",
    f"Histogram of {metric_words(schemes)}; a tail to the right is what a "
    f"patient attacker would find. {dotted}Grey line: plain model. In colour: "
    "the mean.",
    shown,
    draw,
  )


def near(schemes: Sequence[Scheme], levels: Levels) -> Html | None:
  """Draw the metric against distance from the right key."""

  def draw(s: Scheme) -> tuple[str, Html]:
    right = s.estimate("right").value
    unit = str(s.figures["near"][0].get("unit") or "steps")
    drawn = charts.near(s.near, unit, levels._replace(right=right))
    return _recovery(s.near, unit, right), drawn

  return _panels(
    f"Near keys: at what distance does {metric_words(schemes)} recover?",
    "Pale dots are keys, the line is their mean, the dashes are the right key. "
    "A curve that climbs towards the left rewards a nearly right key, which "
    "helps a search; a flat curve does not.",
    [s for s in schemes if s.near],
    draw,
  )


def _recovery(near: Sequence[Near], unit: str, right: float | None) -> str:
  """Describe the curve by its numbers."""
  finite = [p for p in near if p.proves]
  if not finite:
    return _NOTHING
  if right is None:
    return ""
  first = finite[0]
  text = f"{_off(first.distance, unit)}: {points(100 * (first.mean - right))}. "
  half = [p.distance for p in finite if p.mean >= right / 2]
  if not half:
    return text + "Half of what the right key gives at no distance."
  return (
    f"{text}Half of what the right key gives or more up to "
    f"{_off(max(half), unit)}."
  )


def _off(distance: float, unit: str) -> str:
  """Return a distance, as in `1 bit off`."""
  return (
    f"{distance:,g} {unit.removesuffix('s') if distance == 1 else unit} off"
  )


def shuffles(schemes: Sequence[Scheme]) -> Html | None:
  """Show images before and after each pixel scheme's transform."""
  groups: dict[str, list[Scheme]] = {}
  for s in schemes:
    before = (s.figures.get("shuffle") or {}).get("before")
    if before:
      groups.setdefault(json.dumps(before), []).append(s)
  if not groups:
    return None
  return section(
    "What the model sees",
    "Test images as they are and as each lock transforms them, under keys made "
    "for this picture only: an image before and after the key of the model "
    "would reveal that key.",
    *(_images(json.loads(b), group) for b, group in groups.items()),
  )


def _images(before: Any, schemes: Sequence[Scheme]) -> Html:
  cells = [element("h3", "original"), charts.images(before, "original")]
  for s in schemes:
    after = s.figures["shuffle"].get("after") or []
    cells.append(element("h3", s.title, class_=s.color))
    cells.append(charts.images(after, s.title))
  return element("figure", *cells, class_="wide pixels")


def histograms(schemes: Sequence[Scheme]) -> Html | None:
  """Draw the weights that changed most, before and after."""
  shown = [
    s for s in schemes if (s.figures.get("histogram") or {}).get("edges")
  ]
  if not shown:
    return None
  return section(
    "Weights before and after",
    "The array in which most weights changed. Outliers tell an attacker where "
    "to look. An untrained model and its key were made for this picture only: "
    "the weights of the trained one, before and after, would reveal its key.",
    *(_histogram(s, s.figures["histogram"]) for s in shown),
  )


def _histogram(s: Scheme, drawn: Mapping[str, Any]) -> Html:
  caption = (
    f"{drawn['leaf']}: {count(number(drawn['changed']))} of "
    f"{count(sum(drawn['before']))} weights changed. Grey: before; colour: "
    "after; triangles: bins that gained or lost. Log scale."
  )
  return element(
    "figure",
    element("h3", s.title),
    element("figcaption", caption),
    charts.weights(drawn["edges"], drawn["before"], drawn["after"]),
    class_=f"wide {s.color}",
  )


def curves(schemes: Sequence[Scheme]) -> Html | None:
  """Draw training, a panel per trained model."""

  def draw(s: Scheme) -> tuple[str, Html]:
    steps = s.figures["curve"]
    caption = f"{count(number(steps[-1].get('step')))} steps"
    for unit in ("images", "characters", "tokens"):
      speed = number(steps[-1].get(f"{unit}_per_second"))
      caption += f", {count(speed)} {unit}/s at the end" if speed else ""
    drawn = [charts.curve(_pairs(steps, n), n) for n in ("accuracy", "loss")]
    return caption, element("div", *drawn)

  trained = [s for s in schemes if s.figures.get("curve")]
  counted = any(_pairs(s.figures["curve"], "accuracy") for s in trained)
  return _panels(
    "Training",
    f"{'Accuracy in percent, and loss' if counted else 'Loss'} on a log scale, "
    "on the training batch of each step. Locks without a curve here lock the "
    "plain model.",
    trained,
    draw,
  )


def _pairs(
  steps: Sequence[Mapping[str, Any]], name: str
) -> list[tuple[float, float]]:
  pairs = [(number(p.get("step")), number(p.get(name))) for p in steps]
  return [(s, v) for s, v in pairs if s is not None and v is not None]


def _panels(
  title: str,
  about: str,
  schemes: Sequence[Scheme],
  draw: Callable[[Scheme], tuple[str, Html]],
) -> Html | None:
  """Return a section with a captioned figure for each scheme."""
  made = []
  for s in schemes:
    caption, drawn = draw(s)
    made.append(
      element(
        "figure",
        element("h3", s.title),
        element("figcaption", caption),
        drawn,
        class_=s.color,
      )
    )
  if not made:
    return None
  return section(title, about, element("div", *made, class_="grid"))
