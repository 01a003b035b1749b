"""The report of poisoned data: each study in words, curves and pictures."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.report import charts, claims, page, text
from experiments.report.page import Html, element, section
from experiments.report.view import how_many
from experiments.run import files
from experiments.tables import survey

Row = Mapping[str, Any]
_TITLE = "What data can do to a model"
_LEAD = (
  "An attacker who writes some of the training data changes what a model "
  "learns. Each study is one such attack, or one defence, with its control."
)
_LIMITS = (
  "Small networks on small images. A curve is a mean over seeds, with the "
  "least and the greatest value; it is no interval over data sets. An attack "
  "that fails here may succeed with more steps, or with a better idea; only "
  "certificates bound what data can do. This page contains no key."
)


def write(
  path: files.AnyPath, rows: Sequence[Row], pictures: Mapping[str, Any]
) -> None:
  """Write the report, completely or not at all."""
  files.write(path, render(rows, pictures))


def render(rows: Sequence[Row], pictures: Mapping[str, Any]) -> str:
  """Return the report as HTML.

  Args:
    rows: Rows of `experiments.poisoning`.
    pictures: Pictures that studies kept, as `experiments.run.pictures` reads
      them.
  """
  found = claims.by_study(rows)
  groups = {study: found[study] for study in sorted(found, key=survey.order)}
  made = [_head(rows, groups)]
  for study, members in groups.items():
    shown = [p for p in pictures.values() if p["study"] == study]
    made.append(
      section(
        members[0]["study_title"],
        members[0]["sentence"],
        *claims.drawing(members),
        *_pictures(shown),
        claims.figures(members),
      )
    )
  made.append(text.provenance(rows, _LIMITS))
  return page.document(f"KeyJAX: {_TITLE}", *made)


def _head(rows: Sequence[Row], groups: Mapping[str, Sequence[Row]]) -> Html:
  names = [str(r[k]) for r in rows for k in ("config", "dataset")]
  about = " · ".join(x for x in dict.fromkeys(["KeyJAX", *names]) if x)
  seeds = max((len(r["seeds"]) for g in groups.values() for r in g), default=0)
  first = " ".join([_LEAD, claims.OVER_SEEDS])
  tiles = [
    text.tile("studies", str(len(groups)), how_many(seeds, "seed")),
    *_tiles(groups),
  ]
  return element(
    "header",
    element("p", about, class_="eyebrow"),
    element("h1", _TITLE),
    element("p", first, class_="lead"),
    element("div", *tiles, class_="tiles"),
  )


def _tiles(groups: Mapping[str, Sequence[Row]]) -> Iterator[Html]:
  """Yield the largest change of each study's first curve, of three studies."""
  shown = [g for g in groups.values() if claims.lines(g)][:3]
  for members in shown:
    name, own = next(iter(claims.lines(members).items()))
    change = own[-1]["value"] - own[0]["value"]
    title = members[0]["study_title"]
    yield text.tile(title, f"{change:+.3g}", f"{name}, end to end")


def _pictures(shown: Sequence[Mapping[str, Any]]) -> Iterator[Html]:
  """Yield rows of pictures: a grid of two columns, names and pictures."""
  if shown:
    cells = []
    for entry in shown:
      cells.append(element("h3", entry["title"]))
      cells.append(charts.images(entry["image"], entry["title"]))
    yield element("figure", *cells, class_="wide pixels")
