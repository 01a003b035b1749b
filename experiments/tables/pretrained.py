"""Tables of docs/published.md, from rows of `experiments.pretrained`."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.tables import headlines, markdown

Row = Mapping[str, Any]
_SUBJECTS = {
  "embeddings": "all-MiniLM-L6-v2",
  "faces": "MTCNN",
  "text": "PP-OCRv4's text detector",
}
_METRICS = {
  "cosine": "cosine to the original",
  "retrieval": "right text first",
  "ap50": "AP50",
  "ap50 against plain": "AP50 against the plain model's boxes",
}
_CONDITIONS = {
  "plain": "plain",
  "right": "right key",
  "no_key": "no key",
  "wrong": "wrong keys",
}


def pretrained(results: pathlib.Path) -> list[str]:
  """Return a table of each model and figure: locks by condition.

  Args:
    results: Folder with `pretrained.json`.
  """
  rows = headlines.read(results / "pretrained.json")
  made: list[str] = []
  for subject in dict.fromkeys(r["subject"] for r in rows):
    own = [r for r in rows if r["subject"] == subject]
    made += ["", _heading(own[0])]
    for metric in dict.fromkeys(r["metric"] for r in own):
      made += ["", *_table([r for r in own if r["metric"] == metric])]
    made += ["", _origin(own)]
  return made[1:]


def _heading(row: Row) -> str:
  name = _SUBJECTS.get(row["subject"], row["subject"])
  what = f"{row.get('examples', '')} examples".strip()
  if "objects" in row:
    what += (
      f", {row['objects']} boxes; {row['photos']} photographs, "
      f"{row['objects in photos']} boxes"
    )
  return (
    f"**{name}** ({row['parameters']:,} parameters): {row['dataset']}; {what}."
  )


def _table(rows: Sequence[Row]) -> list[str]:
  metric = str(rows[0]["metric"])
  head = (_METRICS.get(metric, metric), *_CONDITIONS.values(), "NaN, no key")
  lines = []
  for title in dict.fromkeys(r["title"] for r in rows):
    own = {r["condition"]: r for r in rows if r["title"] == title}
    cells = [_spread(own[name]) for name in _CONDITIONS]
    lines.append([title, *cells, f"{100 * own['no_key']['nonfinite']:.0f} %"])
  return list(markdown.lines(head, lines))


def _spread(row: Row) -> str:
  """Return `.012 (.000 to .031)`: the mean, and the range over keys."""
  value = f"{row['value']:.3f}"
  low, high = f"{row['low']:.3f}", f"{row['high']:.3f}"
  if row["condition"] == "plain" or low == high:
    return value
  return f"{value} ({low} to {high})"


def _origin(rows: Sequence[Row]) -> str:
  row = rows[0]
  keys = {r["condition"]: r["keys"] for r in rows}
  commits = ", ".join(dict.fromkeys(r["commit"] for r in rows))
  return (
    f"(`{row['command']}`: {keys['right']} secrets, {keys['wrong']} wrong "
    f"keys; means and ranges; commit {commits}; {row['hardware']}; "
    f"{row['date'][:10]}.)"
  )
