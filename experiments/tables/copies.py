"""Tables of docs/attacks/copies.md, and what they say of the survey's advice.

Rows are those of `experiments.copies`.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.tables import headlines, markdown
from keyjax.attacks import intervals

Row = Mapping[str, Any]
CONDITIONS = {
  "plain": "no lock",
  "right": "right key",
  "wrong": "wrong key",
  "no_key": "no key",
}
_RUNS = ("digits", "mnist")  # Files copies_RUN.json, if they exist.
_HIDING = "temperature"


class Finding(NamedTuple):
  """A difference of two agreements, victim by victim.

  Attributes:
    what: What is compared.
    value: Mean difference.
    low: Lower end of its 95 % interval, by Student's t over victims.
    high: Upper end.
  """

  what: str
  value: float
  low: float
  high: float

  @property
  def verdict(self) -> str:
    """What the interval says."""
    if self.low > 0:
      return "more"
    return "less" if self.high < 0 else "no difference that can be told"


def at_most(rows: Sequence[Row], metric: str = "agreement") -> list[Row]:
  """Return the rows of copies with most queries, of each query set."""
  own = [r for r in rows if r["part"] == "knockoff" and r["metric"] == metric]
  most: dict[tuple, Row] = {}
  for r in own:
    place = (r["scheme"], r["condition"], r["reply"], r["query_set"])
    if place not in most or most[place]["queries"] < r["queries"]:
      most[place] = r
  return list(most.values())


def temperature(rows: Sequence[Row]) -> list[Finding]:
  """Return what a temperature does to copies: against all probabilities."""
  found = [r for r in at_most(rows) if r["condition"] == "plain"]
  names = [r["reply"] for r in found if r["reply"].startswith(_HIDING)]
  return [
    finding
    for name in dict.fromkeys(names)
    for finding in _compared(
      [r for r in found if r["reply"] == name],
      [r for r in found if r["reply"] == "all"],
    )
  ]


def remote(rows: Sequence[Row]) -> list[Finding]:
  """Return what answers of a service are worth: against swapped ones."""
  plain = [r for r in at_most(rows) if r["condition"] == "plain"]
  return [
    finding
    for name in ("all", "label")
    for finding in _compared(
      [r for r in plain if r["reply"] == name],
      [r for r in plain if r["reply"] == "swapped"],
    )
  ]


def locks(rows: Sequence[Row]) -> list[Finding]:
  """Return what a lock changes for copies: against the model without one."""
  found = [r for r in at_most(rows) if r["reply"] == "all"]
  plain = [r for r in found if r["condition"] == "plain"]
  return [
    finding
    for scheme in dict.fromkeys(r["scheme"] for r in found)
    for finding in _compared(
      [r for r in found if (r["scheme"], r["condition"]) == (scheme, "right")],
      plain,
    )
  ]


def _compared(ours: Sequence[Row], others: Sequence[Row]) -> list[Finding]:
  """Return differences of rows about the same queries and victims."""
  known = {(r["query_set"], r["queries"]): r for r in others}
  made = []
  for r in ours:
    other = known.get((r["query_set"], r["queries"]))
    if other is None or len(other["values"]) != len(r["values"]):
      continue
    apart = np.subtract(r["values"], other["values"])
    low, high = intervals.mean_interval(apart, (-1.0, 1.0))
    name = r["title"] if r["condition"] == "right" else r["reply_title"]
    what = f"{name}; {r['set_title']}, {r['queries']:,} queries"
    made.append(Finding(what, float(apart.mean()), low, high))
  return made


def copies(results: pathlib.Path) -> list[str]:
  """Return the tables of each run.

  Args:
    results: Folder with `copies_digits.json`, and those of the other runs.
  """
  made: list[str] = []
  for name in _RUNS:
    file = results / f"copies_{name}.json"
    if file.exists():
      made += ["", *_of_run(headlines.read(file))]
  return made[1:]


def _of_run(rows: Sequence[Row]) -> list[str]:
  first = rows[0]
  made = [
    f"**{first['dataset']}**, {first['model']}: {first['victims']} victims of "
    f"about {first['victim_examples']:,} images each; attackers hold "
    f"{first['inputs']} other images; judged on "
    f"{first['test_images']:,}. Agreement with the victim; in brackets, its "
    "95 % interval over victims."
  ]
  parts = (
    _replies(rows),
    _budgets(rows),
    _locked(rows),
    _owned(rows),
    _rebuilt(rows),
  )
  for lines in parts:
    if lines:
      made += ["", *lines]
  return [*made, "", _origin(rows)]


def _replies(rows: Sequence[Row]) -> list[str]:
  """Return a line for each reply: agreement with most queries, by set."""
  plain = [r for r in at_most(rows) if r["condition"] == "plain"]
  return _crossed(plain, "the attacker reads", lambda r: r["reply_title"])


def _crossed(
  rows: Sequence[Row], corner: str, line: Any, column: Any = None
) -> list[str]:
  """Return agreements, with a line for each reply or model."""

  def of_set(r: Row) -> str:
    return f"{r['set_title']}, {r['queries']:,}"

  column = column or of_set
  heads = list(dict.fromkeys(column(r) for r in rows))
  table: dict[str, dict[str, str]] = {}
  for r in rows:
    table.setdefault(line(r), {})[column(r)] = share(r)
  if not table:
    return []
  body = [
    [name, *(cells.get(head, "") for head in heads)]
    for name, cells in table.items()
  ]
  return list(markdown.lines([corner, *heads], body))


def _budgets(rows: Sequence[Row]) -> list[str]:
  """Return a line for each query set and kind of answer: by budget."""
  chosen = ("all", "label", "labels")
  own = [
    r
    for r in rows
    if r["part"] == "knockoff"
    and r["metric"] == "agreement"
    and r["condition"] == "plain"
    and r["reply"] in chosen
  ]
  own.sort(key=lambda r: r["queries"])
  order = list(dict.fromkeys((r["query_set"], r["reply"]) for r in own))
  order.sort(key=lambda x: chosen.index(x[1]))
  own.sort(key=lambda r: order.index((r["query_set"], r["reply"])))
  counts = sorted({r["queries"] for r in own})
  table: dict[str, dict[int, str]] = {}
  for r in own:
    name = f"{r['set_title']}; {r['reply_title']}"
    table.setdefault(name, {})[r["queries"]] = share(r)
  body = [[name, *(x.get(c, "") for c in counts)] for name, x in table.items()]
  head = ["queries", *(f"{c:,}" for c in counts)]
  return list(markdown.lines(head, body)) if body else []


def _locked(rows: Sequence[Row]) -> list[str]:
  """Return a line for each model and condition, as its service answers."""
  found = [r for r in at_most(rows) if r["reply"] in ("all", "label")]
  sets = {r["query_set"] for r in found if r["condition"] != "plain"}
  own = [r for r in found if r["query_set"] in sets]
  own = [r for r in own if r["reply"] == "all" or r["condition"] != "plain"]
  own.sort(key=lambda r: (r["scheme"] != "none",))

  def line(r: Row) -> str:
    words = CONDITIONS[r["condition"]]
    made = r["title"] if r["condition"] == "plain" else f"{r['title']}, {words}"
    made += "" if r["reply"] == "all" else ", the label alone"
    lost = f" ({100 * r['lost']:.0f} % NaN)" if r["lost"] else ""
    return f"{made}{lost}; users get {100 * r['victim_accuracy']:.1f} %"

  return _crossed(own, "service", line)


def _owned(rows: Sequence[Row]) -> list[str]:
  own = [r for r in rows if r["part"] == "ownership"]
  if not own:
    return []
  head = [
    "dataset inference of",
    *dict.fromkeys(r["method_title"] for r in own),
  ]
  body = [
    [kind, *(called(r) for r in own if r["kind_title"] == kind)]
    for kind in dict.fromkeys(r["kind_title"] for r in own)
  ]
  return list(markdown.lines(head, body))


def called(row: Row) -> str:
  """Return how many models are called copies, and their p-values."""
  count = round(row["value"] * row["models"])
  return (
    f"{count} of {row['models']} ({100 * row['low']:.0f} to "
    f"{100 * row['high']:.0f} %); p {min(row['p']):.2g} to "
    f"{max(row['p']):.2g}, median {float(np.median(row['p'])):.2g}"
  )


def _rebuilt(rows: Sequence[Row]) -> list[str]:
  own = [r for r in rows if r["part"] == "rebuild"]
  head = ["victim", "missing", "instead", "agreement", "accuracy", "weights"]
  right = {
    (r["title"], r["missing"], r["guess"]): r
    for r in own
    if r["metric"] == "accuracy"
  }
  body = [
    [
      r["title"],
      r["missing"],
      r["guess"],
      share(r),
      share(right[r["title"], r["missing"], r["guess"]]),
      weights(r),
    ]
    for r in own
    if r["metric"] == "agreement"
  ]
  return list(markdown.lines(head, body)) if body else []


def weights(row: Row) -> str:
  """Return how the weights differ, where the network is the same."""
  if "identical" not in row:
    return ""
  if row["identical"] == len(row["values"]):
    return "equal bit for bit"
  cosine = float(np.mean(row["cosines"]))
  return f"cosine {cosine:.2f}; up to {row['largest_difference']:.2g} apart"


def share(row: Row) -> str:
  """Return a share with its interval."""
  return f"{row['value']:.3f} ({row['low']:.2f} to {row['high']:.2f})"


def _origin(rows: Sequence[Row]) -> str:
  """Return each command of the rows, and where it ran."""
  fields = ("command", "commit", "hardware")
  runs = {tuple(r[x] for x in fields): r["date"][:10] for r in rows}
  told = [
    f"`{command}`: commit {commit}; {hardware}; {date}"
    for (command, commit, hardware), date in runs.items()
  ]
  return f"({'. '.join(told)}.)"
