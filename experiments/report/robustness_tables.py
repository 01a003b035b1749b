"""Tables of robust accuracies: worst cases, all of them, and their costs."""

from collections.abc import Callable, Iterable, Sequence

from experiments.evasion import measure, plan
from experiments.evasion.comparisons import CONTROLS, attacked, of_game
from experiments.report.page import Html, element, section
from experiments.report.robustness_view import (
  Model,
  Row,
  Setting,
  estimate,
  of,
  settings,
)
from experiments.report.svg import percent
from experiments.report.view import DASH, count, interval, number, seconds


def table(
  label: str,
  head: Sequence[str],
  body: Iterable[tuple[str, Sequence[Html]]],
  class_: str = "",
  width: int = 0,
) -> Html:
  """Return a table that scrolls inside itself.

  Args:
    label: Label for screen readers.
    head: Titles of the columns, the first of which has the rows' titles.
    body: Title and cells of each row.
    class_: "heat" or "words".
    width: Least width in pixels.
  """
  names = element("tr", *(element("th", x, scope="col") for x in head))
  rows = [
    element("tr", element("th", title, scope="row"), *cells)
    for title, cells in body
  ]
  parts = element("thead", names), element("tbody", *rows)
  style = f"min-width: {width}px" if width else None
  made = element("table", *parts, class_=class_ or None, style=style)
  reach = {"role": "region", "tabindex": "0", "aria_label": label}
  return element("div", made, class_="scroll", **reach)


def cell(value: str, *notes: str | None, **attributes: str) -> Html:
  """Return a cell with smaller notes below its value."""
  small = [element("small", note) for note in notes if note]
  return element("td", element("b", value), *small, **attributes)


def worst(models: Sequence[Model], rows: Sequence[Row]) -> Html | None:
  """Return models against sizes: the worst case over all attackers."""
  columns = settings(rows)
  if not columns:
    return None
  body = [
    (
      model.title,
      [
        cell(percent(model.clean.value), interval(model.clean)),
        *(_worst(model, s) for s in columns),
      ],
    )
    for model in models
  ]
  head = ["model", "no attack", *map(str, columns)]
  return section(
    "The worst case",
    "Accuracy where an image is lost if any attacker changed it so that the "
    "served model is wrong; below, the 95 % interval over images, and the "
    "accuracy under random changes of the same size, the control. The darker, "
    "the more of the accuracy without attack is lost.",
    table("worst case", head, body, "heat"),
  )


def _worst(model: Model, setting: Setting) -> Html:
  row = model.row("worst", setting)
  if not row:
    return element("td", DASH, class_="none")
  found = estimate(row)
  random = model.at("noise", setting).value
  control = None if random is None else f"random {percent(random)}"
  lost = 1 - row["value"] / (model.clean.value or 1.0)
  return cell(
    percent(found.value),
    interval(found),
    control,
    style=f"--heat: {min(max(lost, 0.0), 1.0):.3f}",
    title=f"{row['members']} attackers, {row['images']} images",
  )


def figures(rows: Sequence[Row]) -> Html | None:
  """Return the table of all accuracies, folded."""
  found = [r for r in rows if r["metric"] == measure.ACCURACY]
  if not found:
    return None
  head = (
    "model",
    "attack",
    "computed",
    "largest change",
    "accuracy",
    "images",
    "not finite",
    "median change",
    "note",
  )
  body = [(r["title"], _figure(r)) for r in found]
  return section(
    "Every figure",
    "Not finite: images on whose way some logits were NaN or infinite. Median "
    "change: the size of those that succeeded.",
    element(
      "details",
      element("summary", f"{count(len(found))} rows"),
      table("every figure", head, body, "words", 900),
    ),
  )


def _figure(row: Row) -> list[Html]:
  found = estimate(row)
  change = number(row["median_distance"])
  notes = [row["note"], *row["flags"].values()]
  return [
    element("td", row["attack_title"]),
    element("td", _computed(row)),
    element("td", str(of(row)) if row["epsilon"] else DASH),
    cell(percent(found.value), interval(found)),
    element("td", count(row["images"])),
    element("td", count(row["nonfinite"])),
    element("td", DASH if change is None else f"{change:.3g}"),
    element("td", "; ".join(str(x) for x in notes if x)),
  ]


def _computed(row: Row) -> str:
  controls = row["game"] in CONTROLS
  return DASH if controls else plan.HOLDERS[row["condition"]]


def costs(rows: Sequence[Row]) -> Html | None:
  """Return the table of what each attack costs."""
  groups: dict[str, list[Row]] = {}
  for r in attacked(rows) + of_game(rows, "noise"):
    groups.setdefault(r["attack"], []).append(r)
  if not groups:
    return None
  head = (
    "attack",
    "computed",
    "passes for an image",
    "time",
    "images",
    "models",
  )
  body = [(m[0]["attack_title"], _cost(m)) for m in groups.values()]
  return section(
    "What each attack costs",
    "From the model and size that took least to those that took most. A pass "
    "with its gradient counts once. Time is for all images and sizes of a "
    "model, compilation included, on the hardware below.",
    table("costs", head, body, width=640),
  )


def _cost(rows: Sequence[Row]) -> list[Html]:
  """Return the cells of an attack from its rows."""
  passes = [r["cost"]["queries"] for r in rows]
  totals: dict[str, float] = {}
  for r in rows:
    before = totals.get(r["model_name"], 0.0)
    totals[r["model_name"]] = before + r["cost"]["seconds"]
  return [
    element("td", _computed(rows[0])),
    element("td", _span(passes, count)),
    element("td", _span(list(totals.values()), seconds)),
    element("td", count(rows[0]["images"])),
    element("td", count(len(totals))),
  ]


def _span(values: Sequence[float], show: Callable[[float], str]) -> str:
  ends = dict.fromkeys(show(f(values)) for f in (min, max))
  return " to ".join(ends)
