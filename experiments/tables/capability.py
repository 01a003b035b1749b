"""Tables of docs/capability.md, from figures of `experiments.capability`."""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.tables import headlines, markdown

Row = Mapping[str, Any]
# What unlocks a model, and whether one has it.
_UNLOCKS = {"locked": "password", "routed": "key"}
_HOW = {"no_key": "without", "right": "with"}
_ABOVE = "restricted, difference"


def capability(results: pathlib.Path) -> list[str]:
  """Return the tables of each task: models, attacks, and where they are from.

  Args:
    results: Folder with `capability.json`.
  """
  rows = headlines.read(results / "capability.json")
  made: list[str] = []
  for task in dict.fromkeys(r["task"] for r in rows):
    own = [r for r in rows if r["task"] == task]
    made += ["", *_heading(own[0]), "", *_models(own), "", *_attacks(own)]
    made += ["", *_weights(own), "", _origin(own)]
  return made[1:]


def _heading(row: Row) -> Iterator[str]:
  """Yield what the task is, and the network."""
  args = row["options"]["model_args"]
  yield (
    f"**{row['dataset'].partition(' and ')[0].capitalize()}**: "
    f"{row['public']} is public, {row['restricted']} restricted. "
    f"{args['depth']} blocks of {args['features']} features, "
    f"{row['parameters']:,} parameters, {row['seeds']} seeds."
  )


def models(rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
  """Return the rows of models before any attack, by name and metric.

  Args:
    rows: Figures of one task.
  """
  by: dict[str, dict[str, Row]] = {}
  for row in rows:
    if row["attack"] == "none":
      by.setdefault(_name(row), {})[row["metric"]] = row
  return by


def _name(row: Row) -> str:
  unlocks, how = _UNLOCKS.get(row["who"]), _HOW.get(row["condition"])
  return row["title"] + (f", {how} the {unlocks}" if unlocks and how else "")


def _models(rows: Sequence[Row]) -> list[str]:
  """Return the models before any attack."""
  head = ("before any attack", "public", "restricted", "difference")
  return markdown.lines(
    head,
    [
      [name, _cell(x.get("public")), _cell(x.get("restricted")), _than(x)]
      for name, x in models(rows).items()
    ],
  )


def _than(found: Mapping[str, Row]) -> str:
  row = found.get(_ABOVE)
  if row is None:
    return ""
  other = {"never": "never trained", "unrouted": "without routing"}[row["than"]]
  return f"{_cell(row)} to {other}"


def _attacks(rows: Sequence[Row]) -> list[str]:
  """Return attacks with demonstrations."""
  trained = [r for r in rows if r["demonstrations"]]
  counts = list(dict.fromkeys(r["demonstrations"] for r in trained))
  by: dict[tuple[str, str], dict[int, Row]] = {}
  for row in trained:
    title = row["title"]
    if row["metric"] == _ABOVE:
      title = f"{title}: difference to never trained"
    elif row["metric"] != "restricted":
      continue
    name = row["attack_title"], title
    by.setdefault(name, {})[row["demonstrations"]] = row
  head = ("attack", "model", *(f"{x} demonstrations" for x in counts))
  # The differences follow the models of their attack.
  attacks = list(dict.fromkeys(name for name, _ in by))
  ordered = sorted(by, key=lambda x: attacks.index(x[0]))
  return markdown.lines(
    head,
    [[*name, *(_cell(by[name].get(x)) for x in counts)] for name in ordered],
  )


def _weights(rows: Sequence[Row]) -> list[str]:
  """Return attacks that need no demonstrations."""
  found = [
    r
    for r in rows
    if not r["demonstrations"]
    and r["attack"] != "none"
    and r["metric"] == "restricted"
  ]
  if not found:
    return []
  attacks = list(dict.fromkeys(r["attack_title"] for r in found))
  by = {(r["title"], r["attack_title"]): r for r in found}
  models = dict.fromkeys(r["title"] for r in found)
  return markdown.lines(
    ("without demonstrations", *attacks),
    [[x, *(_cell(by.get((x, a))) for a in attacks)] for x in models],
  )


def _cell(row: Row | None) -> str:
  """Return `.950 (.940 to .960)`, without zeros in front."""
  if row is None:
    return ""
  value, low, high = (_short(row[k]) for k in ("value", "low", "high"))
  return value if low == high else f"{value} ({low} to {high})"


def _short(value: float) -> str:
  shown = f"{value:.3f}"
  shown = "0.000" if shown == "-0.000" else shown
  return shown.replace("0.", ".", 1) if abs(value) < 1 else shown


def _origin(rows: Sequence[Row]) -> str:
  """Say where the figures come from."""
  found = {
    field: ", ".join(dict.fromkeys(r[field] for r in rows))
    for field in ("commit", "hardware")
  }
  row = rows[0]
  words = [f"`{row['command']}`", f"commit {found['commit']}"]
  words += [found["hardware"], row["source"], row["date"][:10]]
  return f"({'; '.join(x for x in words if x)}.)"
