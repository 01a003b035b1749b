"""Report of a run: one HTML file, made from rows and figures only."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report import commands, elsewhere, page, panels, tables, text
from experiments.report.charts import Levels
from experiments.report.view import chance, group
from experiments.run import files


def write(
  path: files.AnyPath,
  rows: Sequence[Mapping[str, Any]],
  figures: Mapping[str, Mapping[str, Any]],
) -> None:
  """Write the report, completely or not at all.

  Args:
    path: HTML file.
    rows: Rows of `results.json`; see `experiments.run.results.FIELDS`.
    figures: Label -> `experiments.protection.protect.Outcome.figures`.
  """
  files.write(path, render(rows, figures))


def render(
  rows: Sequence[Mapping[str, Any]], figures: Mapping[str, Mapping[str, Any]]
) -> str:
  """Return the report as HTML."""
  plain, schemes = group(rows, figures)
  levels = Levels(plain.estimate("plain"), chance(rows))
  sections = [
    text.head(plain, schemes),
    panels.by_key(schemes, levels, elsewhere.mnist(schemes)),
    tables.worths(schemes),
    tables.accuracies(plain, schemes),
    text.conditions(schemes),
    tables.costs(schemes),
    panels.spreads(schemes, levels),
    panels.near(schemes, levels),
    panels.shuffles(schemes),
    panels.histograms(schemes),
    panels.curves([plain, *schemes]),
    commands.try_next(rows),
    text.provenance(rows),
  ]
  title = f"KeyJAX: {text.heading(plain, schemes)}"
  return page.document(title, *(s for s in sections if s is not None))
