"""Charts of robustness: accuracy against epsilon, and by attacker."""

from collections.abc import Iterable, Mapping, Sequence

from experiments.evasion import plan
from experiments.evasion.comparisons import CONTROLS, attacked, of_game
from experiments.report import charts
from experiments.report.curves import legend
from experiments.report.page import Html, element, section
from experiments.report.robustness_view import (
  Model,
  Row,
  Setting,
  estimate,
  of,
  words,
)
from experiments.report.style import NUM_COLORS
from experiments.report.svg import (
  Frame,
  Scale,
  chart,
  cross,
  dot,
  line,
  path,
  percent,
  x_axis,
  y_axis,
)

_APART = 0.012  # Of lines, as a share of the axis.
_STEP = 17  # Pixels between attackers of a model.
_COLORS = {
  holder: f"s{i}"
  for i, holder in enumerate(
    ("right", "api", "leaked", "wrong", "keys", "no_key"), 1
  )
}


def curves(models: Sequence[Model], chance: float | None) -> list[Html]:
  """Draw accuracy against epsilon: a section for each norm."""
  rows = [r for m in models for r in m.rows]
  norms = dict.fromkeys(r["norm"] for r in _of_holder(rows))
  return [_norm(models, norm, chance) for norm in norms]


def _of_holder(rows: Iterable[Row]) -> list[Row]:
  """Return the rows of attacks with the key, those without a value too."""
  return [
    r for r in rows if r["condition"] == "right" and r["game"] not in CONTROLS
  ]


def _norm(models: Sequence[Model], norm: str, chance: float | None) -> Html:
  """Return the section of a norm: a panel for each model."""
  rows = [r for m in models for r in m.rows if r["norm"] == norm]
  titles = {r["attack"]: r["attack_title"] for r in _of_holder(rows)}
  colors = {
    label: f"s{i % (NUM_COLORS - 1) + 1}" for i, label in enumerate(titles)
  }
  names = [(titles[label], color) for label, color in colors.items()]
  if any(r["game"] == "noise" for r in rows):
    names.append(("random changes", "s0"))
  made = []
  for model in models:
    own = [r for r in model.rows if r["norm"] == norm]
    if _of_holder(own):
      drawn = _panel(model, own, colors, chance)
      made.append(element("figure", element("h3", model.title), drawn))
  return section(
    f"Accuracy against epsilon, {norm}",
    "Attacks with the key, one line each, from the accuracy without attack on. "
    "An attack at one epsilon is a dot. Whiskers: 95 % over images. A grey "
    "line near an attack’s would mean that the attack does no more than chance "
    "does. Dotted: the accuracy of guessing.",
    legend(names),
    element("div", *made, class_="grid"),
  )


def _panel(
  model: Model,
  rows: Sequence[Row],
  colors: Mapping[str, str],
  chance: float | None,
) -> Html:
  most = max(r["epsilon"] for r in rows)
  frame = Frame(Scale(-0.02 * most, 1.05 * most), Scale(0, 1), 170)
  marks = y_axis(frame, (0, 0.5, 1), lambda t: f"{100 * t:.0f}")
  if chance is not None:
    ends = (frame.x.low, chance), (frame.x.high, chance)
    marks.append(line(frame, *ends, "chance"))
  lines = [("s0", of_game(rows, "noise"))]
  for label, color in colors.items():
    own = [r for r in _of_holder(rows) if r["attack"] == label]
    lines.append((color, own))
  for i, (color, points) in enumerate(lines):
    shift = _APART * most * (i - len(lines) / 2)
    drawn = _line(frame, model, points, shift)
    marks.append(element("g", *drawn, class_=color))
  ticks = sorted({0.0, *(r["epsilon"] for r in rows)})
  marks += x_axis(frame, ticks, "{:g}".format, "epsilon")
  title = f"{model.title}: accuracy in percent against epsilon"
  return element("div", chart(frame, title, marks), class_="plot named")


def _line(
  frame: Frame, model: Model, rows: Sequence[Row], shift: float
) -> list[Html]:
  """Return an attack's dots, whiskers and line; a cross without a value."""
  rows = sorted(rows, key=lambda r: r["epsilon"])
  points = [
    (r["epsilon"] + shift, r["value"]) for r in rows if r["value"] is not None
  ]
  clean = model.clean.value
  start = [(0.0, clean)] if clean is not None and len(points) > 1 else []
  marks = path(frame, start + points) if len(points) > 1 else []
  for r in rows:
    x, name = r["epsilon"] + shift, f"{r['attack_title']}, {of(r)}"
    if r["value"] is None:
      marks.append(cross(frame, x, 0, f"{name}: {r['note']}"))
      continue
    tip = f"{name}: {words(estimate(r))}"
    marks += [
      line(frame, (x, r["low"]), (x, r["high"]), "whisker"),
      dot(frame, x, r["value"], tip),
    ]
  return marks


def attackers(
  models: Sequence[Model], setting: Setting | None, chance: float | None
) -> Html | None:
  """Draw what each kind of attacker leaves of each model, at one setting."""
  made = []
  used: dict[str, str] = {}
  for model in models:
    groups: dict[str, list[Row]] = {holder: [] for holder in _COLORS}
    for r in attacked(model.rows):
      if of(r) == setting:
        groups[r["condition"]].append(r)
    groups = {holder: own for holder, own in groups.items() if own}
    if len(groups) > 1:
      used |= {holder: plan.HOLDERS[holder] for holder in groups}
      drawn = _attackers(model, groups, chance)
      made.append(_row(element("h3", model.title), drawn))
  if not made:
    return None
  axis = _row(element("div"), charts.keys_axis())
  return section(
    f"Who attacks, {setting}",
    "Accuracy under the strongest attack of each kind of attacker, with its "
    "95 % interval; pale: that attacker’s other attacks. All are judged on the "
    "model that is served. Marks of attackers without the key far to the right "
    "of those with it: there, the key protects. Grey line: no attack.",
    legend([(used[h], color) for h, color in _COLORS.items() if h in used]),
    element("figure", *made, axis, class_="keys"),
  )


def _row(name: Html, drawn: Html) -> Html:
  return element("div", name, drawn, class_="key")


def _attackers(
  model: Model, groups: Mapping[str, Sequence[Row]], chance: float | None
) -> Html:
  many = len(groups)
  rise = Scale(-0.5, many + 0.5)
  frame = Frame(Scale(0, 1), rise, _STEP * (many + 1))
  levels: list[tuple[float | None, str]] = [
    *((t / 4, "gridline") for t in range(5)),
    (model.clean.value, "plain"),
    (chance, "chance"),
  ]
  marks = [
    line(frame, (x, rise.low), (x, rise.high), class_)
    for x, class_ in levels
    if x is not None
  ]
  said = []
  for i, (holder, rows) in enumerate(groups.items()):
    y = many - i - 0.5
    best, *others = sorted(rows, key=lambda r: r["value"])
    name = plan.HOLDERS[holder]
    drawn = [line(frame, (best["low"], y), (best["high"], y), "line")]
    drawn += [
      dot(frame, r["value"], y, f"{name}: {_tip(r)}", "pale") for r in others
    ]
    drawn.append(dot(frame, best["value"], y, f"{name}: {_tip(best)}", r=5))
    marks.append(element("g", *drawn, class_=_COLORS[holder]))
    said.append(f"{name} {percent(best['value'])}")
  return chart(frame, f"{model.title}: {', '.join(said)}", marks)


def _tip(row: Row) -> str:
  return f"{row['attack_title']}, {words(estimate(row))}"
