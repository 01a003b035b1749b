"""Report of what a key changes inside a network: by layer, and in pictures."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report import charts, page, text
from experiments.report.layered import Point, layered
from experiments.report.page import Html, element, section
from experiments.report.svg import THIN, percent
from experiments.report.view import DASH
from experiments.run import files

Row = Mapping[str, Any]
_NAMES = {
  "right": ("right key", "s3"),
  "wrong": ("wrong keys", "s2"),
  "no_key": ("no key", "s1"),
  "fresh": ("untrained network", "s0"),
}
_METHODS = {"gradient": "gradient", "smooth_grad": "SmoothGrad"}
_LIMITS = (
  "One trained model per scheme; intervals are over keys, images or both as "
  "each row says, not over training runs. CKA compares linear structure, and a "
  "probe shows what can be read, not what the network uses. The pictures are "
  "of models with keys made for this page only; this page contains no key."
)


def write(
  path: files.AnyPath, rows: Sequence[Row], drawn: Mapping[str, Row]
) -> None:
  """Write the report, completely or not at all."""
  files.write(path, render(rows, drawn))


def render(rows: Sequence[Row], drawn: Mapping[str, Row]) -> str:
  """Return the report as HTML.

  Args:
    rows: Rows of `experiments.interpret`.
    drawn: Label -> images and maps, uint8[n, h, w, c], by condition.
  """
  title = "Which layers learn the key"
  about = " · ".join(
    dict.fromkeys(str(r[k]) for r in rows for k in ("dataset", "model"))
  )
  head = element(
    "header",
    element("p", about, class_="eyebrow"),
    element("h1", title),
    element("p", _LEAD, class_="lead"),
  )
  titles = {str(r["scheme"]): str(r["title"]) for r in rows}
  parts = [
    head,
    _cka(rows, titles),
    _probes(rows, titles),
    _tuning(rows, titles),
    _table(rows, titles),
    _pictures(titles, drawn),
    text.provenance(rows, _LIMITS),
  ]
  return page.document(f"KeyJAX: {title}", *parts)


_LEAD = (
  "The same images go through a locked network with the right key, with wrong "
  "keys and with none, and through an untrained network for comparison. Each "
  "layer has two positions: its input, and its output after the key has acted "
  "and before the nonlinearity."
)


def _cka(rows: Sequence[Row], titles: Mapping[str, str]) -> Html:
  return _panels(
    "Similarity of activations to those under the right key",
    "Debiased linear CKA: 1 is equal up to a rotation and a scale, 0 is "
    "unrelated. HPNN’s signs are such a rotation where they act: they are "
    "visible from the input of the next layer on. Whiskers: 95 % over wrong "
    "keys, or over images.",
    [r for r in rows if r["metric"] == "cka"],
    titles,
    low=0.0,
  )


def _probes(rows: Sequence[Row], titles: Mapping[str, str]) -> Html:
  found = [r for r in rows if r["metric"] == "probe"]
  lows = [r["low"] for r in found if r["value"] is not None]
  return _panels(
    "What a linear probe reads from each layer",
    "Test accuracy of ridge regression on the input of each layer, and on the "
    "logits, fitted separately in each condition with labels. If a lock hides "
    "what a layer knows, wrong keys are at the level of the untrained network.",
    found,
    titles,
    low=max(0, int(10 * min(lows, default=0)) / 10),
  )


def _panels(
  title: str,
  about: str,
  rows: Sequence[Row],
  titles: Mapping[str, str],
  low: float,
) -> Html:
  made = []
  for label, name in titles.items():
    lines = {
      c: [
        _point(r) for r in rows if r["scheme"] == label and r["condition"] == c
      ]
      for c in _NAMES
    }
    shown = {_NAMES[c]: points for c, points in lines.items() if points}
    if not shown:
      continue
    drawn = layered(shown, f"{title}: {name}", low)
    made.append(element("figure", element("h3", name), drawn))
  legend = element(
    "ul",
    *(
      element("li", element("b", name), class_=f"name {color}")
      for c, (name, color) in _NAMES.items()
      if any(r["condition"] == c for r in rows)
    ),
    class_="legend",
  )
  return section(title, about, legend, element("div", *made, class_="grid"))


def _point(row: Row) -> Point:
  group = str(row["layer"])
  name = f"{group} {row['side']}".strip()
  note = str(row["interval"]) if row["value"] is None else ""
  return Point(group, name, row["value"], row["low"], row["high"], note)


def _tuning(rows: Sequence[Row], titles: Mapping[str, str]) -> Html:
  found = [r for r in rows if r["metric"] == "layer_tuning"]
  columns = list(dict.fromkeys(str(r["layer"]) for r in found))
  some: Row = next((r for r in found if r.get("steps")), {})
  return section(
    "Which layer, retrained alone, unlocks the stolen file",
    f"Test accuracy after {some.get('steps')} steps on {some.get('images')} "
    "labelled images; all other layers stay as stolen. start: the file as it "
    "is. Leaves that are obviously ciphertext are initialised again.",
    _grid(found, titles, columns, "layer"),
  )


def _table(rows: Sequence[Row], titles: Mapping[str, str]) -> Html:
  found = [r for r in rows if r["metric"] == "saliency_similarity"]
  named = [
    {**r, "column": f"{_NAMES[r['condition']][0]}, {_METHODS[r['method']]}"}
    for r in found
  ]
  columns = list(dict.fromkeys(r["column"] for r in named))
  return section(
    "Does the network look at the same pixels?",
    "Spearman’s correlation in percent between saliency maps under the right "
    "key and in each other condition: mean over keys and images, 95 % over "
    "images.",
    _grid(named, titles, columns, "column"),
  )


def _grid(
  rows: Sequence[Row],
  titles: Mapping[str, str],
  columns: Sequence[str],
  field: str,
) -> Html:
  """Return a table of schemes by the values of `field`, in percent."""
  cells = {(r["scheme"], r[field]): r for r in rows}
  head = [element("th", x, scope="col") for x in ("95 %", *columns)]
  body = [
    element(
      "tr",
      element("th", title, scope="row"),
      *(_cell(cells.get((label, c))) for c in columns),
    )
    for label, title in titles.items()
  ]
  table = element(
    "table", element("thead", element("tr", *head)), element("tbody", *body)
  )
  return element("div", table, class_="scroll")


def _cell(row: Row | None) -> Html:
  if row is None:
    return element("td", DASH)
  if row["value"] is None:
    return element("td", row["interval"])
  ends = f"{100 * row['low']:.1f} to {100 * row['high']:.1f}"
  return element(
    "td", element("b", percent(row["value"])), element("small", ends)
  )


def _pictures(titles: Mapping[str, str], drawn: Mapping[str, Row]) -> Html:
  made = []
  for label, shown in drawn.items():
    cells = [element("h3", "image"), charts.images(shown["image"], "image")]
    for condition, (name, color) in _NAMES.items():
      if condition in shown:
        cells.append(element("h3", name, class_=color))
        cells.append(charts.images(shown[condition], name))
    made.append(element("h3", titles.get(label, label)))
    made.append(element("figure", *cells, class_="wide pixels"))
  return section(
    "Saliency maps",
    f"SmoothGrad of the true label’s logit, each map from 0 to 100{THIN}% of "
    "its largest value; all black: no gradient, or none that is finite. A map "
    "under the owner’s key would help an attacker to find that key, so these "
    "models and keys were made for the pictures only, and trained for fewer "
    "steps.",
    *made,
  )
