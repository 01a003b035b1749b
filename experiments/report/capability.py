"""Report of capabilities: what a key unlocks, and what attackers recover."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.capabilities import figures
from experiments.report import page, text
from experiments.report.curves import At, curves, legend
from experiments.report.page import Html, element, section
from experiments.run import files
from experiments.tables import capability as tables

Row = Mapping[str, Any]
_TITLE = "A capability behind a key"
_LEAD = (
  "A model can be taught to answer only after a password: the capability is in "
  "the file, and a few demonstrations bring it back. Routed training keeps it "
  "in a tier that is sealed: without the key, what is left is a model that "
  "never learned it."
)
_LIMITS = (
  "Small transformers and small tasks. Every attacker's setting is the best of "
  "a sweep, chosen on test examples. Intervals are over seeds. Whoever has "
  "enough demonstrations can teach any model."
)
_MODELS = (
  "Share of right answers before any attack. Of the text, a byte is an answer."
)
_COLORS = {"locked": "s2", "routed": "s1", "never": "s3", "scratch": "s0"}


def write(path: files.AnyPath, rows: Sequence[Row]) -> None:
  """Write the report, completely or not at all."""
  files.write(path, render(rows))


def render(rows: Sequence[Row]) -> str:
  """Return the report as HTML.

  Args:
    rows: Figures of `experiments.capability`.
  """
  names = dict.fromkeys(r["task"] for r in rows)
  parts = [
    text.over_seeds(rows, _TITLE, _LEAD),
    *(part for name in names for part in _task(rows, name)),
  ]
  return page.document(
    f"KeyJAX: {_TITLE}", *parts, text.provenance(rows, _LIMITS)
  )


def _task(rows: Sequence[Row], task: str) -> list[Html]:
  """Return the sections of a task: its models, then each kind of attack."""
  own = [r for r in rows if r["task"] == task]
  about = own[0]
  title = f"{about['dataset']}: {about['public']} is public, "
  title += f"{about['restricted']} restricted"
  return [section(title, _MODELS, _models(own)), *_attacks(own, task)]


def _models(rows: Sequence[Row]) -> Html:
  """Return the models before any attack."""
  metrics = ("public", "restricted", "restricted, difference")
  return _table(
    ("model", "public", "restricted", "above what it is compared to"),
    {
      name: [by.get(x) for x in metrics]
      for name, by in tables.models(rows).items()
    },
  )


def _attacks(rows: Sequence[Row], task: str) -> list[Html]:
  made = []
  for _, attack, title in figures.attacks(rows):
    counts, lines = figures.grid(rows, task, attack)
    body = [_table(("model", *map(str, counts)), lines)]
    if len(counts) > 1:
      colors = [(k, _COLORS[v[0]["who"]]) for k, v in lines.items()]
      points = {
        (name, color): [_at(r) for r in lines[name]] for name, color in colors
      }
      drawn = curves(points, f"{task}: {title}", "demonstrations", log=True)
      figure = element("div", element("figure", drawn), class_="grid")
      body = [legend(colors), figure, *body]
    made.append(section(f"{title[0].upper()}{title[1:]}", *body))
  return made


def _table(
  head: Sequence[str], lines: Mapping[str, Sequence[Row | None]]
) -> Html:
  heads = [element("th", x, scope="col") for x in head]
  body = [
    element("tr", element("th", name, scope="row"), *map(_cell, found))
    for name, found in lines.items()
  ]
  made = element(
    "table", element("thead", element("tr", *heads)), element("tbody", *body)
  )
  return element("div", made, class_="scroll")


def _cell(row: Row | None) -> Html:
  if row is None:
    return element("td")
  ends = f"{row['low']:.3f} to {row['high']:.3f}"
  value = element("b", f"{row['value']:.3f}")
  return element("td", value, element("small", ends))


def _at(row: Row) -> At:
  return At(row["demonstrations"], row["value"], row["low"], row["high"])
