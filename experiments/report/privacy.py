"""Report of membership attacks: ROC curves, and the leak by condition."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.report import page, private, text
from experiments.report.curves import legend
from experiments.report.page import Html, element, section
from experiments.report.svg import (
  Frame,
  Scale,
  chart,
  path,
  percent,
  x_axis,
  y_axis,
)
from experiments.run import files

Row = Mapping[str, Any]
_CONDITIONS = {
  "plain": ("no lock", "s3"),
  "right": ("right key", "s3"),
  "wrong": ("wrong keys", "s2"),
  "no_key": ("no key", "s1"),
}
# Of the plain model, one of each kind: there are as many colours.
_DRAWN = ("gap", "loss", "label_only", "shokri", "lira_fixed", "rmia")
_STRONGEST = ("lira_fixed", "lira", "rmia")  # The first that was run is drawn.
_TICKS = (0.001, 0.01, 0.1, 1.0)
_TITLE = "Who was in the training data"
_LEAD = (
  "Was an example among a model’s training data? Each attack gives a score to "
  "members and to others; a curve shows how many members it names, for each "
  "share of the others that it names by mistake. The left end is what does "
  "harm. Chance is the grey line."
)
_LIMITS = (
  "One key for each model. Shadow models are trained as the judged one was, "
  "under the same key where there is one: more than an attacker without the "
  "key could do. Intervals are bootstraps over examples, the widest of the "
  "judged models. No lock guarantees anything about training data. This page "
  "contains no key."
)


def write(path: files.AnyPath, rows: Sequence[Row]) -> None:
  """Write the report, completely or not at all."""
  files.write(path, render(rows))


def render(rows: Sequence[Row]) -> str:
  """Return the report as HTML.

  Args:
    rows: Rows of `experiments.privacy`.
  """
  return page.document(f"KeyJAX: {_TITLE}", *parts(rows))


def parts(rows: Sequence[Row]) -> list[Html]:
  """Return the parts of the report, which may be put on a page with others."""
  first = rows[0]
  about = (
    f"{first['dataset']} · {first['model']} · {first['examples']:,} examples, "
    f"half of them members · {percent(first['label_noise'], 0)} of labels wrong"
  )
  head = element(
    "header",
    element("p", about, class_="eyebrow"),
    element("h1", _TITLE),
    element("p", _LEAD, class_="lead"),
  )
  made = [head, *_attacks(rows), *_locks(rows), *private.sections(rows)]
  made += _tables(rows)
  return [*made, text.provenance(list(rows), _LIMITS)]


def _attacks(rows: Sequence[Row]) -> list[Html]:
  """Draw all attacks on the plain model."""
  found = {
    r["attack"]: r
    for r in _areas(rows)
    if (r["condition"], r["training"]) == ("plain", "none")
  }
  lines = {
    (str(found[name]["attack_title"]), f"s{i}"): found[name]["curves"][:1]
    for i, name in enumerate(_DRAWN, 1)
    if name in found
  }
  if not lines:
    return []
  drawn = _roc(lines, "attacks on the plain model")
  return [
    section(
      "Attacks on the model without a lock",
      "The first judged model; both axes are logarithmic.",
      legend(list(lines)),
      drawn,
    )
  ]


def _locks(rows: Sequence[Row]) -> list[Html]:
  """Draw the strongest attack in each condition, a panel for each model."""
  ran = {r["attack"] for r in rows}
  chosen = next((a for a in _STRONGEST if a in ran), "")
  own = [r for r in _areas(rows) if r["attack"] == chosen]
  panels = []
  for title in dict.fromkeys(r["title"] for r in own):
    lines = {
      _CONDITIONS[r["condition"]]: r["curves"]
      for r in own
      if r["title"] == title and r["condition"] in _CONDITIONS
    }
    drawn = _roc(lines, f"{title}: by condition")
    panels.append(element("figure", element("h3", title), drawn))
  if not panels:
    return []
  shown = {_CONDITIONS[r["condition"]]: 1 for r in own}
  what = own[0]["attack_title"]
  return [
    section(
      f"What each lock leaves: {what}",
      "A line for each judged model.",
      legend(list(shown)),
      element("div", *panels, class_="grid"),
    )
  ]


def _roc(
  lines: Mapping[tuple[str, str], Sequence[Sequence[Sequence[float]]]],
  title: str,
) -> Html:
  """Draw ROC curves on logarithmic axes.

  Args:
    lines: Curves [[fpr, tpr]] of the judged models, by (name, colour).
    title: Label for screen readers.
  """
  low = _TICKS[0]
  scale = Scale(low, 1.0, log=True)
  frame = Frame(scale, scale, 220)
  marks = y_axis(frame, _TICKS, percent_of)
  marks.append(
    element("g", *path(frame, [(low, low), (1.0, 1.0)]), class_="s0")
  )
  for (name, color), curves in lines.items():
    drawn = [x for curve in curves for x in path(frame, _shown(curve, low))]
    marks.append(element("g", element("title", name), *drawn, class_=color))
  marks += x_axis(frame, _TICKS, percent_of, "false positive rate")
  return element("div", chart(frame, title, marks), class_="plot named")


def percent_of(share: float) -> str:
  """Return a share as a tick.

  Example:
    >>> percent_of(0.001)
    '0.1 %'
  """
  return f"{100 * share:g} %"


def _shown(
  curve: Iterable[Sequence[float]], low: float
) -> list[tuple[float, float]]:
  """Return the points of a curve, with those left of the axis on it."""
  points: list[tuple[float, float]] = []
  for fpr, tpr in curve:
    point = (max(fpr, low), max(tpr, low))
    if points and points[-1][0] == point[0]:
      points[-1] = point  # The greatest TPR at this FPR.
    else:
      points.append(point)
  return points


def _tables(rows: Sequence[Row]) -> list[Html]:
  """Return the leak by condition, and by what a service answers."""
  conditions = [r for r in rows if not r["reply"]]
  made = [
    section(
      "All attacks, by condition",
      "Area under the curve, with its 95 % interval, and the true positive "
      "rate at a false positive rate of 1 %.",
      _table(conditions, lambda r: (r["title"], _condition(r))),
    )
  ]
  replies = [r for r in rows if r["reply"]]
  if replies:
    made.append(
      section(
        "What a service answers",
        "The attacker sees nothing else, and trains on shadow models that "
        "answer in the same way.",
        _table(replies, lambda r: (r["reply"], "")),
      )
    )
  return made


def _table(rows: Sequence[Row], place: Any) -> Html:
  titles = dict.fromkeys(r["attack_title"] for r in rows if r["attack"])
  lines: dict[tuple[str, str], dict[tuple[str, str], Row]] = {}
  for r in rows:
    lines.setdefault(place(r), {})[r["attack_title"], r["metric"]] = r
  head = element("tr", *(element("th", x) for x in ("", "", *titles)))
  body = []
  for (name, condition), found in lines.items():
    cells = [element("th", name, scope="row"), element("td", condition)]
    cells += [element("td", _cell(found, title)) for title in titles]
    body.append(element("tr", *cells))
  table = element("table", element("thead", head), element("tbody", *body))
  return element("div", table, class_="scroll")


def _cell(found: Mapping[tuple[str, str], Row], title: str) -> str:
  area = found.get((title, "auc"))
  if area is None:
    return ""
  shown = f"{area['value']:.3f} ({area['low']:.2f}–{area['high']:.2f})"
  rate = found[title, "tpr_0.01"]
  shown += f"; {percent(rate['value'])}"
  bound = found.get((title, "epsilon_bound"))
  if bound is not None:
    shown += f"; epsilon ≥ {bound['value']:.2f}"
  return shown + (f"; {area['nan']:.0f} NaN" if area["nan"] else "")


def _condition(row: Row) -> str:
  return _CONDITIONS[row["condition"]][0]


def _areas(rows: Sequence[Row]) -> list[Row]:
  return [r for r in rows if r["metric"] == "auc" and not r["reply"]]
