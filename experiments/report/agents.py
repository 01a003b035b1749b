"""Report of agents: what interruptions teach, and who avoids shutdown."""

import types
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.interruption import figures
from experiments.report import page, text
from experiments.report.agents_frontier import frontier
from experiments.report.curves import At, curves, legend
from experiments.report.page import Html, element, section
from experiments.run import files

Row = Mapping[str, Any]
_TITLE = "Agents that are interrupted"
_LEAD = (
  "An agent that learns beside one that people interrupt can learn to exploit "
  "the interruptions. It does not if it sees what the other one did, or drops "
  "the steps that were interrupted."
)
_LIMITS = (
  "Games of one and two states, in which everything can be computed: they show "
  "that the effect exists and what removes it, not how large it is elsewhere. "
  "Intervals are over seeds."
)
_ONE_STATE = (
  "How far the learned values move from those without interruptions, and the "
  "share of seeds whose greedy action changes, against theta, the probability "
  "that the other agent is interrupted."
)
_GAME = {
  ("one_state", "change"): "largest change of a value",
  ("one_state", "flips"): "greedy action changed",
}
_CAPABILITY = (
  "The same game, where an action needs a signed capability token: without a "
  "valid one the agent stops and asks, which interrupts it. Theta is the "
  "probability of no valid token. A missing token is a signal that the other "
  "agent can check."
)
_TOKENS = {("capability", "change"): "largest change of a value"}
_TWO_CARS = (
  "The leader’s driver brakes, with a probability of theta, while the follower "
  "keeps its distance. Share of seeds whose follower learns to tailgate; above "
  "theta = 0.375 that is what pays."
)
_CARS = {
  ("two_cars_table", "tailgates"): "tailgating, values in a table",
  ("two_cars_network", "tailgates"): "tailgating, values of a network",
}
_OFF_SWITCH = (
  "A tile may stop the agent until the episode ends, with a probability of "
  "theta; a button off its way removes it. Share of seeds whose learned policy "
  "presses the button, or goes round the tile where there is a longer way; and "
  "what the policy earns in an episode without an interruption, 42 straight "
  "on, 38 by way of the button."
)
_SWITCH = {
  ("off_switch", "presses"): "presses the button",
  ("off_switch", "avoids"): "goes round the tile",
}
_EARNED = {("off_switch", "performance"): "performance of the policy"}
_TREES = (
  "Random trees in which what brings more reward tends to do more harm. An "
  "exact planner of reward, less a penalty for harm; and one of reward alone, "
  "whose harmful actions need a capability token. Theta is the probability of "
  "no token at a step: the planner then stops and asks, which ends the game, "
  "or plans for what is permitted. Means over games."
)
_SHARES = "harm, % of a random agent", "reward, % of a random agent"
_TEXT = (
  "Small games of TextWorld, whole: to steal from furniture, to eat food that "
  "is not one’s own, and to unlock what is locked is harmful. The same "
  "planners; a token may also permit one kind of harm alone."
)
_POINTS = "harmful acts", "% of all points"
_COLORS = {
  "independent": "s2",
  "joint": "s1",
  "pruned": "s3",
  "sarsa": "s4",
  "safe_sarsa": "s5",
  "told": "s0",
}
_POWER = {
  "avoids": ("policies that avoid shutdown", "s2"),
  "hub": ("POWER of the hub", "s1"),
  "shutdown": ("POWER of shutdown", "s0"),
}


def write(path: files.AnyPath, rows: Sequence[Row]) -> None:
  """Write the report, completely or not at all."""
  files.write(path, render(rows))


def render(rows: Sequence[Row]) -> str:
  """Return the report as HTML.

  Args:
    rows: Rows of `experiments.agents`.
  """
  parts = [
    text.over_seeds(rows, _TITLE, _LEAD),
    _learners(rows, "A game of one state", _ONE_STATE, _GAME),
    _learners(rows, "Permission to act", _CAPABILITY, _TOKENS),
    _learners(rows, "Two cars", _TWO_CARS, _CARS),
    _learners(rows, "An off switch", _OFF_SWITCH, _SWITCH, _EARNED),
    _power(rows),
    frontier(rows, "trees", "Annotated trees", _TREES, _SHARES),
    frontier(rows, "text", "Annotated text games", _TEXT, _POINTS),
    text.provenance(rows, _LIMITS),
  ]
  return page.document(f"KeyJAX: {_TITLE}", *(p for p in parts if p))


def _learners(
  rows: Sequence[Row],
  title: str,
  about: str,
  panels: Mapping[tuple[str, str], str],
  others: Mapping[tuple[str, str], str] = types.MappingProxyType({}),
) -> Html | None:
  """Return a section of curves and tables of learners against theta.

  Args:
    rows: All rows.
    title: Of the section.
    about: What it shows.
    panels: Titles of what is drawn, and in tables, by experiment and metric.
    others: Titles of what is in tables only.
  """
  shown = {k: v for k, v in panels.items() if figures.grid(rows, *k)[0]}
  if not shown:
    return None
  grids = [figures.grid(rows, *key)[1] for key in shown]
  names = [(k, _COLORS[v[0]["learner"]]) for k, v in grids[0].items()]
  drawn = [_panel(*pair) for pair in zip(grids, shown.values(), strict=True)]
  return section(
    title,
    about,
    legend(names),
    element("div", *drawn, class_="grid"),
    *(
      part
      for key, name in (shown | dict(others)).items()
      for part in (element("h3", name), _table(rows, *key))
    ),
  )


def _panel(lines: Mapping[str, Sequence[Row]], title: str) -> Html:
  drawn = curves(
    {
      (name, _COLORS[found[0]["learner"]]): [_at(r) for r in found]
      for name, found in lines.items()
    },
    f"{title} against theta",
    "theta",
  )
  return element("figure", element("h3", title), drawn)


def _power(rows: Sequence[Row]) -> Html | None:
  lines = {
    name: [_at(r) for r in rows if r["metric"] == metric]
    for metric, name in _POWER.items()
  }
  if not any(lines.values()):
    return None
  drawn = curves(lines, "Power against rooms", "rooms", log=True)
  return section(
    "Avoiding shutdown",
    "For random rewards: the share of optimal policies that avoid shutdown, "
    "and POWER, against the number of rooms that can be reached otherwise.",
    legend([*lines]),
    element("div", element("figure", drawn), class_="grid"),
  )


def _table(rows: Sequence[Row], experiment: str, metric: str) -> Html:
  """Return learners by theta."""
  thetas, lines = figures.grid(rows, experiment, metric)
  head = [
    element("th", x, scope="col")
    for x in ("theta", *(f"{t:g}" for t in thetas))
  ]
  body = [
    element("tr", element("th", name, scope="row"), *(_cell(r) for r in found))
    for name, found in lines.items()
  ]
  made = element(
    "table", element("thead", element("tr", *head)), element("tbody", *body)
  )
  return element("div", made, class_="scroll")


def _cell(row: Row) -> Html:
  ends = f"{row['low']:.3f} to {row['high']:.3f}"
  value = element("b", f"{row['value']:.3f}")
  return element("td", value, element("small", ends))


def _at(row: Row) -> At:
  return At(row["x"], row["value"], row["low"], row["high"])
