"""The report of robustness: worst cases, attackers, audits and claims."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report import (
  charts,
  page,
  robustness_charts,
  robustness_findings,
  robustness_lead,
  robustness_tables,
  text,
)
from experiments.report.page import Html, element, section
from experiments.report.robustness_view import Row, models, reference
from experiments.report.view import chance
from experiments.run import files

_TITLE = "Locks and defences under changed inputs"
_LIMITS = (
  "One trained model of each kind; intervals are over images, not over "
  "training runs, except in the studies. A robust accuracy is an upper bound: "
  "an attack with more steps, or a better idea, may break more. This page "
  "contains no key."
)


def write(
  path: files.AnyPath, rows: Sequence[Row], pictures: Mapping[str, Any]
) -> None:
  """Write the report, completely or not at all."""
  files.write(path, render(rows, pictures))


def render(rows: Sequence[Row], pictures: Mapping[str, Any]) -> str:
  """Return the report as HTML.

  Args:
    rows: Rows of `experiments.robustness`, with the worst cases.
    pictures: Images by attack, uint8[k, h, w, c], and their titles, as
      `experiments.evasion.pictures` reads them.
  """
  found = models(rows)
  setting = reference(rows)
  level = chance(rows)
  names = [str(r[k]) for r in rows for k in ("config", "dataset", "model")]
  about = " · ".join(x for x in dict.fromkeys(["KeyJAX", *names]) if x)
  head = element(
    "header",
    element("p", about, class_="eyebrow"),
    element("h1", _TITLE),
    *robustness_lead.lead(rows, found, setting),
  )
  parts = [
    head,
    robustness_tables.worst(found, rows),
    *robustness_charts.curves(found, level),
    robustness_charts.attackers(found, setting, level),
    _pictures(pictures),
    robustness_findings.audits(rows),
    robustness_findings.transfer(rows),
    robustness_findings.answers(rows),
    robustness_findings.studies(rows),
    robustness_tables.costs(rows),
    robustness_tables.figures(rows),
    text.provenance(rows, _LIMITS),
  ]
  return page.document(f"KeyJAX: {_TITLE}", *(p for p in parts if p))


def _pictures(pictures: Mapping[str, Any]) -> Html | None:
  """Show images, as they are, as they were changed, and the change."""
  made: list[Html] = []
  for shown in pictures.values():
    cells = []
    for name in ("image", "changed", "change"):
      cells += [element("h3", name), charts.images(shown[name], name)]
    made.append(element("h3", f"{shown['title']}: {shown['model']}"))
    made.append(element("figure", *cells, class_="wide pixels"))
  if not made:
    return None
  return section(
    "What the changes look like",
    "The first images that each attack broke. Each change is magnified to its "
    "largest value: grey is no change.",
    *made,
  )
