"""The report of attacks: scores, score against cost, and the price of keys."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.report import page, text, worth
from experiments.report.page import Html, definitions, element, section
from experiments.report.style import NUM_COLORS
from experiments.report.svg import (
  THIN,
  Frame,
  Scale,
  chart,
  dot,
  line,
  path,
  percent,
  x_axis,
  y_axis,
)
from experiments.report.view import (
  DASH,
  how_many,
  points,
  seconds,
  span,
)
from experiments.report.worth import Worth
from experiments.run import files
from keyjax.attacks.verdict import gain, progress

Row = Mapping[str, Any]
_GOALS = {
  "key": "share of the key’s words that were found",
  "weights": "share of the locked weights that were found, bit for bit",
  "function": "what the attacker’s model reaches on test examples, by the "
  "metric of its task",
  "distinguish": "share of files told apart, from decoys or by a property of "
  "their training data; half is chance",
  "forge": "whether the owner’s key opened a changed file to what was claimed",
  "transfer": "share of images that the owner’s model misclassified once they "
  "were changed, of those it had classified correctly",
}

_LIMITS = (
  "One trained model per scheme; intervals are over images or games, not over "
  "training runs. An attack that failed here may succeed with more steps, more "
  "data or a better idea: a low score bounds this attacker, not all. This page "
  "contains no key."
)


def write(path: files.AnyPath, rows: Sequence[Row]) -> None:
  """Write the report, whole or not at all."""
  files.write(path, render(rows))


def render(rows: Sequence[Row]) -> str:
  """Return the report as HTML.

  Args:
    rows: Rows of `experiments.attack`.
  """
  prices = [r for r in rows if r["metric"] == "log10_years"]
  scores = [r for r in rows if r["metric"] != "log10_years"]
  sections = [
    _head(rows, scores),
    _worth(scores, prices),
    *(_scores(scores) if scores else []),
    _prices(prices),
    text.provenance(rows, _LIMITS),
  ]
  return page.document("KeyJAX: attacks on locks", *(s for s in sections if s))


def _scores(rows: Sequence[Row]) -> list[Html | None]:
  return [_heat_map(rows), _gains(rows), _curves(rows), _meaning(rows)]


def _worth(rows: Sequence[Row], prices: Sequence[Row]) -> Html:
  """Return each scheme's class, key space, best known break and verdict."""
  bits = {r["scheme"]: r.get("key_bits") for r in prices}
  first = {r["scheme"]: r for r in reversed([*rows, *prices])}
  order = dict.fromkeys(r["scheme"] for r in [*rows, *prices])
  return worth.table(
    Worth(
      title=first[label]["title"],
      mechanism=first[label]["mechanism"],
      options=first[label]["options"],
      bits=bits.get(label),
      rows=tuple(r for r in rows if r["scheme"] == label),
      baselines=tuple(rows),
    )
    for label in order
  )


def _titles(rows: Sequence[Row], name: str, title: str) -> dict[str, str]:
  """Return labels and their titles, in the order of the config."""
  return {r[name]: r[title] for r in rows}


def _head(rows: Sequence[Row], scores: Sequence[Row]) -> Html:
  schemes = how_many(len(_titles(rows, "scheme", "title")), "scheme")
  data = f"{rows[0]['dataset']} ({rows[0]['model']})"
  lead = f"{schemes.capitalize()} on {data}: the price of trying every key."
  if scores:
    attacks = _titles(scores, "attack", "attack_title")
    lead = (
      f"{schemes.capitalize()} against {how_many(len(attacks), 'attack')} on "
      f"{data}. A lock is worth what its strongest attacker leaves of it; each "
      "cell is the best of all settings that were tried."
    )
  return element(
    "header",
    element("p", f"KeyJAX · {rows[0]['config']}", class_="eyebrow"),
    element("h1", "Every lock with its break"),
    element("p", lead, class_="lead"),
  )


def _heat_map(rows: Sequence[Row]) -> Html:
  attacks = _titles(rows, "attack", "attack_title")
  cells = {(r["scheme"], r["attack"]): r for r in rows}
  head = [element("th", t, scope="col") for t in ("", *attacks.values())]
  body = []
  for label, title in _titles(rows, "scheme", "title").items():
    found = [_cell(cells.get((label, a)), rows) for a in attacks]
    body.append(element("tr", element("th", title, scope="row"), *found))
  table = element(
    "table", element("thead", element("tr", *head)), element("tbody", *body)
  )
  reach = {"role": "region", "tabindex": "0", "aria_label": "heat map"}
  return section(
    "Schemes against attacks",
    "In percent; below, the 95 % interval, and for fine-tuning the gain over "
    "training from scratch. The darker a cell, the further the attacker got. "
    f"{DASH}: the attack does not apply.",
    element("div", table, class_="scroll heat", **reach),
  )


def _cell(row: Row | None, rows: Sequence[Row]) -> Html:
  if row is None:
    return element("td", DASH, class_="none")
  if row["value"] is None:
    return element("td", DASH, element("small", row["note"]), class_="none")
  found = gain(row, rows)
  exact = row["low"] == row["high"]
  bad = row.get("details", {}).get("nonfinite", 0)
  return element(
    "td",
    element("b", f"{100 * row['value']:.1f}"),
    None if exact else element("small", span([row["low"], row["high"]])),
    element("small", points(100 * found.value)) if found else None,
    element("small", f"{bad:,} not finite") if bad else None,
    style=f"--heat: {progress(row):.3f}",
    title=f"{row['metric']}, {_GOALS[row['metric']]}",
  )


def _gains(rows: Sequence[Row]) -> Html | None:
  """Return scheme x share of the data: the gain over scratch."""
  tuned = [r for r in rows if gain(r, rows) is not None]
  if not tuned:
    return None
  attacks = _titles(tuned, "attack", "attack_title")
  cells = {(r["scheme"], r["attack"]): r for r in tuned}
  head = [element("th", t, scope="col") for t in ("gain", *attacks.values())]
  body = []
  for label, title in _titles(tuned, "scheme", "title").items():
    found = [_gain_cell(cells.get((label, a)), rows) for a in attacks]
    body.append(element("tr", element("th", title, scope="row"), *found))
  table = element(
    "table", element("thead", element("tr", *head)), element("tbody", *body)
  )
  return section(
    "What the stolen weights were worth",
    "What fine-tuning reaches on test examples, by the task’s metric, less "
    "what training from scratch does with the same examples and steps, both at "
    "their best setting, in points with the 95 % interval (Newcombe). Near "
    "zero: the file was worth nothing to an attacker.",
    element("div", table, class_="scroll"),
  )


def _gain_cell(row: Row | None, rows: Sequence[Row]) -> Html:
  found = gain(row, rows) if row else None
  if found is None:
    return element("td", DASH)
  ends = f"{100 * found.low:+.1f} to {100 * found.high:+.1f}"
  return element(
    "td",
    element("b", points(100 * found.value)),
    element("small", ends),
  )


def _curves(rows: Sequence[Row]) -> Html | None:
  """Draw score against the attacker's seconds, one panel for each scheme."""
  made = []
  for label, title in _titles(rows, "scheme", "title").items():
    own = [r for r in rows if r["scheme"] == label and _moves(r)]
    if own:
      made.append(
        element("figure", element("h3", title), _legend(own), _panel(own))
      )
  if not made:
    return None
  return section(
    "Score against cost",
    "Each dot is a claim that the attack made, with its 95 % interval, against "
    "the seconds it had computed for; one setting, the best.",
    element("div", *made, class_="grid"),
  )


def _moves(row: Row) -> bool:
  return row["value"] is not None and len(_timed(row)) > 1


def _timed(row: Row) -> list[Mapping[str, float]]:
  return [p for p in row["curve"] if p["seconds"] > 0]


def _color(index: int) -> str:
  return f"s{index % (NUM_COLORS - 1) + 1}"


def _legend(rows: Sequence[Row]) -> Html:
  names = [
    element("li", element("b", r["attack_title"]), class_=f"name {_color(i)}")
    for i, r in enumerate(rows)
  ]
  return element("ul", *names, class_="legend")


def _panel(rows: Sequence[Row]) -> Html:
  times = [p["seconds"] for r in rows for p in _timed(r)]
  low = min(times)
  high = max(*times, low * 10)
  frame = Frame(Scale(low, high, log=True), Scale(0, 1))
  marks = y_axis(frame, (0, 0.5, 1), lambda t: f"{100 * t:.0f}")
  for i, row in enumerate(rows):
    marks.append(element("g", *_curve(frame, row), class_=_color(i)))
  marks += x_axis(frame, (low, high), seconds, "seconds")
  title = "Score in percent against seconds, one line an attack"
  return element("div", chart(frame, title, marks), class_="plot named")


def _curve(frame: Frame, row: Row) -> list[Html]:
  claims = _timed(row)
  marks = path(frame, [(p["seconds"], p["value"]) for p in claims])
  for p in claims:
    low = (p["seconds"], p["low"])
    high = (p["seconds"], p["high"])
    marks.append(line(frame, low, high, "whisker"))
    where = f"{row['attack_title']}: {percent(p['value'])}"
    cost = f"{p['steps']:,} steps, {seconds(p['seconds'])}"
    marks.append(dot(frame, p["seconds"], p["value"], f"{where}, {cost}"))
  return marks


def _meaning(rows: Sequence[Row]) -> Html:
  used = dict.fromkeys(r["metric"] for r in rows)
  intervals = dict.fromkeys(r["interval"] for r in rows if r["interval"])
  return section(
    "What the scores mean",
    f"95{THIN}% intervals: {'; '.join(intervals)}.",
    definitions((name, _GOALS[name]) for name in used),
  )


def _prices(rows: Sequence[Row]) -> Html | None:
  """Return a table of what trying every key would cost."""
  priced = [r for r in rows if r["value"] is not None]
  if not priced:
    return None
  titles = ("scheme", "key bits", "keys a second", "years")
  head = [element("th", t, scope="col") for t in titles]
  body = [
    element(
      "tr",
      element("th", r["title"], scope="row"),
      element("td", f"{r['key_bits']:.1f}"),
      element("td", f"{r['keys_a_second']:,.0f}"),
      element("td", "10", element("sup", f"{r['value']:.1f}")),
    )
    for r in priced
  ]
  table = element(
    "table", element("thead", element("tr", *head)), element("tbody", *body)
  )
  return section(
    "What trying every key would cost",
    "Wrong keys a second at which a guesser decrypts, binds and runs "
    f"{how_many(priced[0]['images'], 'image')}, {priced[0]['keys']} keys in "
    "one call, and the expected years: half of the keys. It bounds guessing "
    "only; most schemes fall to an attack that does not guess.",
    element("div", table, class_="scroll"),
  )
