"""Tables of docs/attacks/gradients.md, from `experiments.recording`."""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.tables import headlines, markdown

Row = Mapping[str, Any]
_CONDITIONS = {
  "plain": "",
  "right": "right key",
  "wrong": "wrong key",
  "no_key": "no key",
  "keyed": "as the network saw it",
}


def recording(results: pathlib.Path) -> list[str]:
  """Return the tables of gradients and of on-line learning.

  Args:
    results: Folder with `recording.json`.
  """
  rows = headlines.read(results / "recording.json")
  made: list[str] = []
  for part, table in (("gradients", _gradients), ("online", _online)):
    own = [r for r in rows if r["part"] == part]
    if own:
      made += ["", *table(own)]
  return [*made[1:], "", _origin(rows)] if made else []


def _gradients(rows: Sequence[Row]) -> list[str]:
  attacks = list(dict.fromkeys(r["attack_title"] for r in rows))
  by: dict[tuple[str, str, str], dict[tuple[str, str], Row]] = {}
  for r in rows:
    place = (r["title"], r["scene"], _CONDITIONS[r["condition"]])
    by.setdefault(place, {})[r["attack_title"], r["metric"]] = r
  head = ("network", "gradient of", "compared", *attacks, "labels, %")
  return markdown.lines(
    head,
    [
      [*place, *(_cell(own, x) for x in attacks), _labels(own)]
      for place, own in by.items()
    ],
  )


def _cell(found: Mapping[tuple[str, str], Row], attack: str) -> str:
  """Return who was named, and the PSNR with its interval."""
  if (attack, "named") not in found:
    return ""
  named, psnr = found[attack, "named"], found[attack, "psnr"]
  count = round(named["value"] * named["images"])
  return (
    f"{count}/{named['images']}, {psnr['value']:.1f} "
    f"({psnr['low']:.1f} to {psnr['high']:.1f})"
  )


def _labels(found: Mapping[tuple[str, str], Row]) -> str:
  """Return the share of labels that signs and counts give, not a search."""
  own = [
    r
    for (attack, metric), r in found.items()
    if metric == "labels" and attack != "DLG"
  ]
  return f"{100 * own[-1]['value']:.0f}" if own else ""


def _online(rows: Sequence[Row]) -> list[str]:
  by: dict[tuple[str, str, str], dict[str, Row]] = {}
  for r in rows:
    if r["metric"] == "auc":
      place = (r["title"], _learned(r), _CONDITIONS[r["condition"]])
      by.setdefault(place, {})[r["attack"]] = r
  return markdown.lines(
    ("model", "it learned", "read with", "loss, AUC", "fall of the loss, AUC"),
    [
      [*place, *map(_area, map(found.get, ("loss", "difference")))]
      for place, found in by.items()
    ],
  )


def _area(row: Row | None) -> str:
  if row is None:
    return ""
  return f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"


def _learned(row: Row) -> str:
  if not row["passes"]:
    return "nothing: frozen"
  what = "right answers" if row["answers"] == "told" else "its own answers"
  return f"{what}, {row['passes']} x"


def _origin(rows: Sequence[Row]) -> str:
  def all_of(values: Iterator[str]) -> str:
    return ", ".join(dict.fromkeys(values))

  row = rows[0]
  commits = all_of(x for r in rows for x in r["commit"].split(", "))
  dates = all_of(r["date"][:10] for r in rows)
  return (
    f"(`{row['command']}`; {row['dataset']}; {row['seeds']} seeds; intervals "
    f"are Student's t over seeds; commit {commits}; {row['hardware']}; "
    f"{dates}.)"
  )
