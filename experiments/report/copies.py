"""Report of copies: agreement against queries, and what stands behind it."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report import page, text
from experiments.report.curves import At, curves, legend
from experiments.report.page import Html, element, section
from experiments.run import files
from experiments.tables import copies as figures

Row = Mapping[str, Any]
_COLORS = {
  "plain": ("no lock", "s0"),
  "right": ("right key", "s3"),
  "wrong": ("wrong key", "s2"),
  "no_key": ("no key", "s1"),
}
_TITLE = "Copies against queries"
_LEAD = (
  "An attacker asks a model, and trains a copy on its answers. A curve shows "
  "on how many new images the copy gives the class that the model does. A key "
  "protects a file: a service that holds it answers attackers as it does users."
)
_LIMITS = (
  "Intervals are Student’s t over victims, each with its own data, weights and "
  "key, and Clopper-Pearson over images where victims do not differ. The "
  "attacker knows the network and the recipe of the victim, except where they "
  "are guessed. Networks are small. This page contains no key."
)


def write(path: files.AnyPath, rows: Sequence[Row]) -> None:
  """Write the report, completely or not at all."""
  files.write(path, render(rows))


def render(rows: Sequence[Row]) -> str:
  """Return the report as HTML.

  Args:
    rows: Rows of `experiments.copies`.
  """
  return page.document(f"KeyJAX: {_TITLE}", *parts(rows))


def parts(rows: Sequence[Row]) -> list[Html]:
  """Return the parts of the report, which may be put on a page with others."""
  first = rows[0]
  about = (
    f"{first['dataset']} · {first['model']} · {first['victims']} victims of "
    f"about {first['victim_examples']:,} examples · judged on "
    f"{first['test_images']:,}"
  )
  head = element(
    "header",
    element("p", about, class_="eyebrow"),
    element("h1", _TITLE),
    element("p", _LEAD, class_="lead"),
  )
  made = [head, *_plain(rows), *_locks(rows), *_findings(rows)]
  made += [*_ownership(rows), *_rebuilt(rows), *_table(rows)]
  return [*made, text.provenance(list(rows), _LIMITS)]


def _agreements(rows: Sequence[Row]) -> list[Row]:
  return [
    r for r in rows if r["part"] == "knockoff" and r["metric"] == "agreement"
  ]


def _plain(rows: Sequence[Row]) -> list[Html]:
  """Draw a panel for each query set, with a line for each kind of answer."""
  own = [r for r in _agreements(rows) if r["condition"] == "plain"]
  replies = dict.fromkeys(r["reply_title"] for r in own)
  controls = {r["reply_title"] for r in own if r["reply"] == "swapped"}
  drawn = [x for x in replies if x not in controls]
  names = {x: (x, f"s{i % 10 + 1}") for i, x in enumerate(drawn)}
  names |= {x: (x, "s0") for x in controls}
  panels = [
    panel
    for title in dict.fromkeys(r["set_title"] for r in own)
    for panel in _panel(
      title,
      [r for r in own if r["set_title"] == title],
      lambda r: names[r["reply_title"]],
    )
  ]
  if not panels:
    return []
  return [
    section(
      "A model without a lock",
      "By what is asked, and what of the answer the attacker has. The "
      "number of queries is on a logarithmic axis.",
      legend(list(names.values())),
      element("div", *panels, class_="grid"),
    )
  ]


def _locks(rows: Sequence[Row]) -> list[Html]:
  """Draw a panel for each lock, with a line for each condition."""
  own = [r for r in _agreements(rows) if r["reply"] == "all"]
  locked = [r for r in own if r["condition"] != "plain"]
  if not locked:
    return []
  kind, set_title = locked[0]["query_set"], locked[0]["set_title"]
  own = [r for r in own if r["query_set"] == kind]
  plain = [r for r in own if r["condition"] == "plain"]
  panels = [
    panel
    for title in dict.fromkeys(r["title"] for r in locked)
    for panel in _panel(
      title,
      plain + [r for r in own if r["title"] == title],
      lambda r: _COLORS[r["condition"]],
    )
  ]
  return [
    section(
      "What each lock changes",
      f"Asked with: {set_title}; the service answers all probabilities. "
      "Agreement is with the model as its users know it, with the right key.",
      legend(list(_COLORS.values())),
      element("div", *panels, class_="grid"),
    )
  ]


def _panel(title: str, rows: Sequence[Row], name: Any) -> list[Html]:
  """Return a panel; none if there is one budget, which is in the table."""
  lines: dict[tuple[str, str], list[At]] = {}
  for r in sorted(rows, key=lambda r: r["queries"]):
    at = At(r["queries"], r["value"], r["low"], r["high"])
    lines.setdefault(name(r), []).append(at)
  if len({at.x for points in lines.values() for at in points}) < 2:
    return []
  drawn = curves(lines, f"{title}: agreement", "queries", log=True)
  return [element("figure", element("h3", title), drawn)]


def _findings(rows: Sequence[Row]) -> list[Html]:
  """Put two sentences of the survey to the test, and the locks."""
  asked = (
    (
      "“A temperature keeps a model private”",
      "The survey’s advice against membership inference. Against copies: "
      "agreement less that with all probabilities.",
      figures.temperature(rows),
    ),
    (
      "“Running a model remotely makes extraction futile”",
      "Agreement less that of copies whose answers belong to other queries.",
      figures.remote(rows),
    ),
    (
      "A key in the service",
      "Agreement less that of copies of the model without a lock, both by all "
      "probabilities.",
      figures.locks(rows),
    ),
  )
  made = []
  for title, words, found in asked:
    if found:
      made.append(section(title, words, _differences(found)))
  return made


def _differences(found: Sequence[figures.Finding]) -> Html:
  body = [
    (x.what, f"{x.value:+.3f}", f"{x.low:+.3f} to {x.high:+.3f}", x.verdict)
    for x in found
  ]
  return _html_table(("", "difference", "95 % interval", "copies agree"), body)


def _html_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> Html:
  top = element("tr", *(element("th", x) for x in head))
  lines = [
    element(
      "tr",
      element("th", name, scope="row"),
      *(element("td", x) for x in cells),
    )
    for name, *cells in body
  ]
  table = element("table", element("thead", top), element("tbody", *lines))
  return element("div", table, class_="scroll")


def _ownership(rows: Sequence[Row]) -> list[Html]:
  own = [r for r in rows if r["part"] == "ownership"]
  if not own:
    return []
  body = [(r["kind_title"], r["method_title"], figures.called(r)) for r in own]
  return [
    section(
      "Dataset inference: whose model is it?",
      f"Models that are called copies at a level of {own[0]['level']:g}, by a "
      f"t-test on {own[0]['examples']:,} examples of either kind. What "
      "independent models get are false alarms. It is a caution, and no proof "
      "of ownership.",
      _html_table(("model", "measured", "called a copy"), body),
    )
  ]


def _rebuilt(rows: Sequence[Row]) -> list[Html]:
  own = [r for r in rows if r["part"] == "rebuild"]
  body = [
    (
      f"{r['title']}: without {r['missing']}",
      r["guess"],
      figures.share(r),
      figures.weights(r),
    )
    for r in own
    if r["metric"] == "agreement"
  ]
  if not body:
    return []
  return [
    section(
      "Built again from three parts of four",
      "Network, recipe, data and weights; of locked models the attacker has "
      "no key.",
      _html_table(("missing", "instead", "agreement", "weights"), body),
    )
  ]


def _table(rows: Sequence[Row]) -> list[Html]:
  """Return agreement and accuracy with most queries."""
  right = {_place(r): r for r in figures.at_most(rows, "accuracy")}
  body = [
    (
      r["title"],
      figures.CONDITIONS[r["condition"]],
      r["reply_title"],
      r["set_title"],
      f"{r['queries']:,}",
      figures.share(r),
      figures.share(right[_place(r)]),
      f"{100 * r['victim_accuracy']:.1f} %",
      f"{100 * r['lost']:.0f} %",
    )
    for r in figures.at_most(rows)
  ]
  if not body:
    return []
  head = ["", "service", "answers", "asked with", "queries", "agreement"]
  head += ["accuracy", "of the victim", "answers not finite"]
  return [section("With most queries", _html_table(head, body))]


def _place(row: Row) -> tuple[str, ...]:
  names = ("scheme", "condition", "reply", "query_set")
  return tuple(row[name] for name in names)
