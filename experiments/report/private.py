"""Report of private trainings: what an epsilon costs, and what it leaves."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.report.curves import At, curves, legend
from experiments.report.page import Html, element, section

Row = Mapping[str, Any]
_ACCURACIES = {
  "test_accuracy": ("accuracy on others", "s3"),
  "train_accuracy": ("accuracy on members", "s5"),
}
_ATTACKS = {"loss": "s1", "shokri": "s2", "lira_fixed": "s4", "rmia": "s6"}
_CLAIMED = ("claimed", "s0")
_EXPLAINED = (
  "Left: accuracy. Middle: area under the curve of attacks; chance is .5. "
  "Right: the epsilon that each attack proves from below, by one training run "
  "(95 %, each attack alone), under the one that is claimed. Whiskers are the "
  "least and the greatest of the judged models, or 95 % intervals of areas. "
  "Epsilon and all that it assumes is at the end of the page."
)


def sections(rows: Sequence[Row]) -> list[Html]:
  """Return the section of private trainings; none if there are fewer than two.

  Args:
    rows: Rows of `experiments.privacy`.
  """
  own = [r for r in rows if "privacy" in r and not r["forgets_noise"]]
  own.sort(key=_epsilon)
  if len({_epsilon(r) for r in own}) < 2:  # noqa: PLR2004
    return []
  panels = [
    _panel("accuracy", own, lambda r: _ACCURACIES.get(r["metric"])),
    _panel("area under the curve", own, _attack("auc")),
    _panel(
      "epsilon, proved",
      own,
      _attack("epsilon_bound"),
      top=max(map(_epsilon, own)),
      more={_CLAIMED: [_at(r, _epsilon(r)) for r in own]},
    ),
  ]
  shown = [*_ACCURACIES.values(), *_names(own).values(), _CLAIMED]
  return [
    section(
      "Under differential privacy",
      _EXPLAINED,
      legend(shown),
      element("div", *panels, class_="grid"),
    )
  ]


def _epsilon(row: Row) -> float:
  return round(float(row["privacy"]["epsilon"]), 2)


def _at(row: Row, value: float) -> At:
  return At(_epsilon(row), value, value, value)


def _names(rows: Iterable[Row]) -> dict[str, tuple[str, str]]:
  return {
    r["attack"]: (r["attack_title"], _ATTACKS[r["attack"]])
    for r in rows
    if r["attack"] in _ATTACKS
  }


def _attack(metric: str) -> Any:
  def name(row: Row) -> tuple[str, str] | None:
    return _names([row]).get(row["attack"]) if row["metric"] == metric else None

  return name


def _panel(
  title: str,
  rows: Sequence[Row],
  name: Any,
  top: float = 1.0,
  more: Mapping[tuple[str, str], Sequence[At]] | None = None,
) -> Html:
  """Return a figure against epsilon, with a line for each name."""
  lines: dict[tuple[str, str], list[At]] = {}
  for r in rows:
    if found := name(r):
      at = At(_epsilon(r), r["value"], r["low"], r["high"])
      lines.setdefault(found, []).append(at)
  drawn = curves({**lines, **(more or {})}, title, "epsilon", top=top, log=True)
  return element("figure", element("h3", title), drawn)
