"""Report of what gradients and on-line updates record, with pictures."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.recordings import figures
from experiments.report import charts, page, text
from experiments.report.page import Html, element, section
from experiments.run import files

Row = dict[str, Any]
PICTURES = ("true", "found")
_GRADIENTS = "Images from gradients"
_ONLINE = "Who was served"
PLACES = {
  _GRADIENTS: ("network", "gradient of", "condition", "attack"),
  _ONLINE: ("model", "it learned", "condition", "attack"),
}
_COLUMNS = {
  _GRADIENTS: {
    "named": "named",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "mse": "squared error",
    "control": "control",
    "labels": "labels",
  },
  _ONLINE: {"auc": "AUC", "tpr_0.01": "TPR at 1 %"},
}
_ABOUT = {
  _GRADIENTS: (
    "An image is named if it is nearer to what was recovered than each of the "
    "unrelated images; control is the least squared error to one of these. "
    "Keyed: compared with the image as the network saw it."
  ),
  _ONLINE: (
    "Area under the ROC curve of inputs that were served against inputs that "
    "were not; chance is 0.5. The fall of the loss needs a copy of the model "
    "from before."
  ),
}
_TITLE = "What training and serving record"
_LEAD = (
  "A worker of distributed training sends a gradient, which is a function of "
  "its images: here an observer looks for images with that gradient. A model "
  "that goes on learning from what it serves can be asked who was served."
)
_LIMITS = (
  "Small networks and small images. The observer has the weights at which the "
  "gradient was computed. One fresh key for each scene and seed. Intervals are "
  "over seeds; that of the share of named images is over images. This page "
  "contains no key."
)


def write(path: files.AnyPath, rows: Sequence[Row]) -> None:
  """Write the report, completely or not at all."""
  files.write(path, render(rows))


def parts(
  rows: Sequence[Row],
) -> Iterator[
  tuple[str, dict[tuple[str, ...], dict[str, Row]], dict[str, str]]
]:
  """Yield title, lines by place, and columns of each table."""
  for title, lines in (
    (_ONLINE, figures.online(rows)),
    (_GRADIENTS, figures.scenes(rows)),
  ):
    if lines:
      yield title, lines, _COLUMNS[title]


def render(rows: Sequence[Row]) -> str:
  """Return the report as HTML.

  Args:
    rows: Figures of `experiments.recording`.
  """
  made = [text.over_seeds(rows, _TITLE, _LEAD)]
  for title, lines, columns in parts(rows):
    body = [_table(PLACES[title], lines, columns)]
    if title == _GRADIENTS:
      body = [*_pictures(lines), *body]
    made.append(section(title, _ABOUT[title], *body))
  made.append(text.provenance(rows, _LIMITS))
  return page.document(f"KeyJAX: {_TITLE}", *made)


def _pictures(
  lines: Mapping[tuple[str, ...], Mapping[str, Row]],
) -> Iterator[Html]:
  """Yield the first images of each scene: true ones, then recovered ones."""
  groups: dict[tuple[str, ...], list[tuple[str, Row]]] = {}
  for names, found in lines.items():
    row = found.get("mse", {})
    if "found" in row:
      groups.setdefault(names[:-1], []).append((names[-1], row))
  for place, own in groups.items():
    cells = [element("h3", "true"), charts.images(own[0][1]["true"], "true")]
    for attack, row in own:
      cells.append(element("h3", attack))
      cells.append(charts.images(row["found"], attack))
    yield element("h3", "; ".join(place))
    # A grid of two columns: a name, and its pictures.
    yield element("figure", *cells, class_="wide pixels")


def _table(
  head: Sequence[str],
  lines: Mapping[tuple[str, ...], Mapping[str, Row]],
  columns: Mapping[str, str],
) -> Html:
  heads = (element("th", x, scope="col") for x in (*head, *columns.values()))
  body = []
  for place, found in lines.items():
    cells = [element("th", place[0], scope="row")]
    cells += [element("td", x) for x in place[1:]]
    cells += [_cell(found.get(x)) for x in columns]
    body.append(element("tr", *cells))
  table = element(
    "table",
    element("thead", element("tr", *heads)),
    element("tbody", *body),
  )
  return element("div", table, class_="scroll")


def _cell(row: Row | None) -> Html:
  if row is None:
    return element("td")
  ends = f"{row['low']:.3f} to {row['high']:.3f}"
  return element(
    "td", element("b", f"{row['value']:.3f}"), element("small", ends)
  )
