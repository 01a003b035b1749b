"""Page of several runs side by side: schemes in rows, runs in columns."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.report import page, tables
from experiments.report.page import Html, definitions, element, section
from experiments.report.view import (
  DASH,
  Scheme,
  group,
  how_many,
  number,
  proves_nothing,
)
from experiments.run import results

_CONDITIONS = ("right key", "no key", "best wrong key")
_FIELDS = ("config", "dataset", "model", "command", "commit", "date")


class Side(NamedTuple):
  """One run.

  Attributes:
    name: Its folder.
    plain: Rows of its plain model.
    schemes: Its locks, by title.
  """

  name: str
  plain: Scheme
  schemes: Mapping[str, Scheme]


def side(name: str, rows: Sequence[Mapping[str, Any]]) -> Side:
  """Return a run, from the rows of `experiments.main`."""
  plain, schemes = group(rows, {})
  return Side(name, plain, {s.title: s for s in schemes})


def titles(sides: Sequence[Side]) -> list[str]:
  """Return the plain model and every lock, in the order of the runs."""
  found = dict.fromkeys(t for s in sides for t in s.schemes)
  return ["plain", *(t for t in found if t != "plain")]


def figures(side: Side, title: str) -> list[str]:
  """Return what a run has of a lock: right key, no key, best wrong key, in %.

  Of the plain model, its value; a dash if the run has none.
  """
  if title == "plain":
    return [_percent(side.plain.row("plain"), "value")]
  scheme = side.schemes.get(title)
  if scheme is None:
    return [DASH]
  return [
    _percent(scheme.row("right"), "value"),
    _percent(scheme.row("no_key"), "value"),
    _percent(scheme.row("wrong"), "max"),
  ]


def _percent(row: Mapping[str, Any], field: str) -> str:
  value = number(row.get(field))
  if value is None:
    return DASH
  return "NaN" if proves_nothing(row) else f"{100 * value:.2f}"


def locks(sides: Sequence[Side]) -> list[Scheme]:
  """Return every lock, from the first run that has it."""
  return [
    next(s.schemes[title] for s in sides if title in s.schemes)
    for title in titles(sides)[1:]
  ]


def render(sides: Sequence[Side]) -> str:
  """Return the page as HTML."""
  title = f"{how_many(len(sides), 'run').capitalize()} side by side"
  head = element(
    "header",
    element("p", "KeyJAX", class_="eyebrow"),
    element("h1", title),
    element("p", _lead(sides), class_="lead"),
  )
  body = [head, _table(sides), tables.worths(locks(sides)), _runs(sides)]
  return page.document(f"KeyJAX: {title}", *(x for x in body if x))


def _lead(sides: Sequence[Side]) -> str:
  shared = [t for t in titles(sides)[1:] if all(t in s.schemes for s in sides)]
  data = dict.fromkeys(str(s.plain.field("dataset")) for s in sides)
  return (
    f"{how_many(len(shared), 'lock').capitalize()} in every run, on "
    f"{', '.join(data)}. Values of different data, models or numbers of keys "
    "are not comparable by themselves: compare each with the plain model of "
    "its own column."
  )


def _table(sides: Sequence[Side]) -> Html:
  first = [element("th", "in %", scope="col", rowspan=2)]
  metrics = {s.name: results.in_words(s.plain.metric) for s in sides}
  first += [
    element(
      "th",
      s.name,
      element("small", f"{s.plain.field('dataset')}, {metrics[s.name]}"),
      scope="colgroup",
      colspan=len(_CONDITIONS),
      class_="first",
    )
    for s in sides
  ]
  second = [
    element("th", c, scope="col", class_=None if i else "first")
    for _ in sides
    for i, c in enumerate(_CONDITIONS)
  ]
  head = element("thead", element("tr", *first), element("tr", *second))
  rows = [_row(sides, title) for title in titles(sides)]
  made = element("table", head, element("tbody", *rows), class_="sides")
  reach = {"role": "region", "tabindex": "0", "aria_label": "runs"}
  return section(
    "The numbers",
    element("div", made, class_="scroll", **reach),
    element("p", tables.note(), class_="soft"),
  )


def _row(sides: Sequence[Side], title: str) -> Html:
  cells = [cell for s in sides for cell in _cells(s, title)]
  return element("tr", element("th", title, scope="row"), *cells)


def _cells(side: Side, title: str) -> list[Html]:
  nothing = tables.cell(DASH)
  if title == "plain":
    return [tables.accuracy(side.plain, "plain", None), nothing, nothing]
  scheme = side.schemes.get(title)
  if scheme is None:
    return [nothing] * len(_CONDITIONS)
  base = side.plain.estimate("plain").value
  return [
    tables.accuracy(scheme, "right", base),
    tables.accuracy(scheme, "no_key", base),
    tables.best(scheme),
  ]


def _runs(sides: Sequence[Side]) -> Html:
  pairs = [
    (s.name, " · ".join(filter(None, (str(s.plain.field(f)) for f in _FIELDS))))
    for s in sides
  ]
  return section("Where this comes from", definitions(pairs))
