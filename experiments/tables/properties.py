"""Tables of docs/attacks/properties.md: what networks reveal of their data.

Rows are those of `configs/attack_properties.py`, over seeds.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.tables import headlines, markdown, over_seeds

Row = Mapping[str, Any]
CONFIG = "attack_properties"
# The setting of an attack, in words.
_FILES = {
  "plain": "file; learned from plain shadows",
  "locked": "file; from locked shadows",
  "known_pair": "file; one secret for all, and a known file",
}
_ANSWERS = {
  "answers": "service, right key: logits",
  "labels": "service, right key: labels alone",
  "wrong_key": "service, wrong keys: logits",
  "no_key": "stolen file, run as it is: logits",
}


def properties(results: pathlib.Path) -> list[str]:
  """Return the tables: files, answers, and networks of private training.

  Args:
    results: Folder with `attacks.json`.
  """
  rows = headlines.read(results / "attacks.json")
  rows = [r for r in rows if r["config"] == CONFIG and "trained" in r]
  if not rows:
    return []
  usual = [r for r in rows if r["trained"] == "as usual"]
  made: list[str] = []
  for what, seen in (
    ("what the attacker has of each network", _FILES),
    ("whom the attacker asks", _ANSWERS),
  ):
    made += [*_table(what, usual, seen), ""]
  made += _private([r for r in rows if r not in usual])
  return [*made, over_seeds.origin(rows)]


def _table(
  what: str, rows: Sequence[Row], seen: Mapping[str, str], first: str = "lock"
) -> list[str]:
  """Return a line for each lock and view, a column for each property."""
  names = list(dict.fromkeys(r["property"] for r in rows))
  by = {(r["scheme"], r["seen"], r["property"]): r for r in rows}
  titles = {r["scheme"]: r["title"] for r in rows}
  body = [
    [title, words, *(_share(by.get((label, kind, x))) for x in names)]
    for label, title in titles.items()
    for kind, words in seen.items()
    if any((label, kind, x) in by for x in names)
  ]
  return list(markdown.lines([first, what, *names], body)) if body else []


def _share(row: Row | None) -> str:
  """Return how many are guessed right, and how many answers are no numbers."""
  if row is None:
    return ""
  asked = row["budget"]["trials"] * row["attacker"]["queries"]
  lost = max(row.get("nonfinite", [0]))
  if not lost:
    return markdown.median(row)
  words = "none is" if lost == asked else f"{100 * lost / asked:.0f} % are not"
  return f"{markdown.median(row)}; of the answers, {words} finite"


def _private(rows: Sequence[Row]) -> list[str]:
  """Return the table of private training, with all that its figure assumes."""
  promised = [r["privacy"] for r in rows if "privacy" in r]
  if not promised:
    return []
  found = promised[0]
  words = (
    f"Trained with differential privacy, epsilon {found['epsilon']:.2f} at "
    f"delta {found['delta']:g}, for {found['relation']}; {found['examples']} "
    f"examples, {found['steps']} steps, sampling {found['sampling']}; noise of "
    f"{found['noise_multiplier']:.2f} times the clipping norm of "
    f"{found['clipping_norm']:g}; accountant {found['accountant']}; "
    f"{found['scope']}. Without noise, the same is done, and nothing promised:"
  )
  what = "what the attacker has or asks"
  made = [words, ""]
  # No lock here: the training is in the first column.
  titled = [{**r, "title": r["trained"], "scheme": r["trained"]} for r in rows]
  return [*made, *_table(what, titled, _FILES | _ANSWERS, "training"), ""]
