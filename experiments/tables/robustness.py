"""Table of robust accuracies, from rows of `experiments.robustness`."""

import collections
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.tables import headlines, markdown

METRIC = "robust accuracy"  # Of rows of models under attack.
HOLDERS = {  # Who computes an attack.
  "right": "with the key",
  "wrong": "with a wrong key",
  "leaked": "with half of the key",
  "no_key": "with the stolen file",
  "keys": "over random keys",
  "api": "with queries",
}
_DATA = {"digits": "Digits", "mnist": "MNIST"}
_WORST = "worst"

Row = Mapping[str, Any]


def robustness(results: pathlib.Path) -> list[str]:
  """Return models against attacks, one table for each data set."""
  made: list[str] = []
  for name, title in _DATA.items():
    rows = headlines.read(results / f"robustness_{name}.json")
    found = [
      r for r in rows if r["metric"] == METRIC and r["value"] is not None
    ]
    if found:
      made += [*_table(title, found), "", *_origins(found), ""]
  return made[:-1]


def _table(title: str, rows: Sequence[Row]) -> Iterator[str]:
  """Return accuracies at the size of change that most attacks were run at."""
  epsilons = collections.Counter(
    r["epsilon"] for r in rows if r["norm"] == "linf" and r["epsilon"]
  )
  epsilon = epsilons.most_common(1)[0][0]
  chosen = [
    r for r in rows if r["norm"] == "linf" and r["epsilon"] in (0, epsilon)
  ]
  by = {(r["model_name"], r["attack"]): r for r in chosen}
  models = {r["model_name"]: r["title"] for r in chosen}
  # The worst case is last, whatever the order of the rows.
  attacks = {r["attack"]: r for r in chosen if r["attack"] != _WORST}
  attacks |= {r["attack"]: r for r in chosen if r["attack"] == _WORST}
  yield f"**{title}**, accuracy in %, linf {epsilon:g}:"
  yield ""
  cells = [
    [name, *(_cell(by.get((model, attack))) for attack in attacks)]
    for model, name in models.items()
  ]
  yield from markdown.lines(["model", *map(_head, attacks.values())], cells)


def _head(row: Row) -> str:
  """Return the title of an attack and what its attacker holds."""
  if row["attack"] in ("clean", "noise", _WORST):
    return str(row["attack_title"])
  return f"{row['attack_title']}, {HOLDERS[row['condition']]}"


def _cell(row: Row | None) -> str:
  """Return an accuracy; of the worst case, with its interval."""
  if row is None:
    return ""
  if row["attack"] != _WORST:
    return f"{100 * row['value']:.1f}"
  return " ".join(
    (
      f"{100 * row['value']:.1f}",
      f"({100 * row['low']:.1f} to {100 * row['high']:.1f})",
    )
  )


def _origins(rows: Sequence[Row]) -> list[str]:
  runs = {(r["command"], r["commit"]): r for r in reversed(rows)}
  return [
    f"- `{r['command']}`: {max(x['images'] for x in rows)} images; commit "
    f"{r['commit']}; {r['hardware']}; {r['date'][:10]}; one network of each "
    "model; 95 % intervals over images."
    for r in runs.values()
  ]
