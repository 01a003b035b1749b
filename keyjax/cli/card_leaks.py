"""What a model tells of its data, as lines of text.

A card has many of these figures. Shown are the highest of each condition, under
all that they assume.
"""

import shutil
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from keyjax.card import Card
from keyjax.cli.card_table import percent
from keyjax.cli.output import printable

Row = dict[str, Any]
_METRICS = {
  "auc": "AUC",
  "balanced_accuracy": "balanced accuracy",
  "named": "named",
  "psnr": "PSNR, dB",
  "labels": "labels",
}
_LEARNED = {"told": "the right answers", "own": "its own answers"}
_CHANCE = (
  "Chance: 50 %, and the FPR for a TPR. Balanced accuracy is at the best "
  "threshold, which an attacker would have to know."
)


def lines(leaks: Card) -> list[str]:
  """Return the section of a card; nothing if it has none.

  Args:
    leaks: The section, of a card whose form was checked.
  """
  return [
    *_membership(leaks.get("membership", [])),
    *_copies(leaks.get("copies", [])),
    *_gradients(leaks.get("gradients", [])),
    *_updates(leaks.get("updates", [])),
  ]


def _membership(rows: Sequence[Row]) -> list[str]:
  made = []
  fields = ("examples", "members", "others", "draw", "label_noise")
  for (examples, members, others, draw, noise), own in _groups(rows, fields):
    assumed = (
      f"{examples:,} examples, {draw}; of the first model judged {members:,} "
      f"are members and {others:,} are not. {100 * noise:g} % of the labels "
      "are wrong. Judged are models trained for this, not the one that is "
      f"shipped. {_CHANCE}"
    )
    made += _block("who was in the training data", own, assumed)
    places = ("condition", "answers", "models")
    for (condition, answers, models), found in _groups(own, places):
      where = f"{condition}: {answers}" if answers else condition
      nan = max(r["nan"] for r in found)
      counted = f"{nan:g} of {examples:,} scores NaN"
      made.append(printable(f"  {where} ({models:,} models judged, {counted})"))
      made += [_figure(r, _shadows(r)) for r in _highest(found)]
    made.append("")
  return made


def _shadows(row: Row) -> str:
  if not row["shadows"]:
    return "no shadow model"
  how = "the same key" if row["shadow_models"] == "same key" else "no key"
  return f"{row['shadows']:,} shadow models, {how}"


def _copies(rows: Sequence[Row]) -> list[str]:
  made = []
  fields = ("victims", "victim_examples", "inputs", "test_images")
  for (victims, examples, inputs, images), own in _groups(rows, fields):
    assumed = (
      "Agreement with the original by number of queries, for the kind of "
      f"queries that gives most. {victims:,} originals of {examples:,} images "
      f"each; the attacker has {inputs:,} other images; {images:,} images "
      "judge. Control: the same answers to other queries."
    )
    made += _heading("copies, %, with 95 % intervals", assumed)
    for (condition, answers), found in _groups(own, ("condition", "answers")):
      made.append(printable(f"  {condition}, {answers}: {_copy(found)}"))
    made.append("")
  return made


def _copy(rows: Sequence[Row]) -> str:
  """Return the agreement by the kind of queries that is worth most."""
  kinds = [
    sorted(own, key=lambda r: r["queries"])
    for _, own in _groups(rows, ("asked",))
  ]
  best = max(kinds, key=lambda own: own[-1]["value"])
  last = best[-1]
  counts = [f"{r['queries']:,}: {percent(r['value'])}" for r in best[:-1]]
  most = f"{last['queries']:,}: {_percent(last)}"
  lost = f", {percent(last['lost'])} of answers lost" if last["lost"] else ""
  return (
    f"{last['asked']}, {', '.join((*counts, most))}; control "
    f"{_percent(last['control'])}{lost}"
  )


def _gradients(rows: Sequence[Row]) -> list[str]:
  made = []
  fields = ("unrelated", "seeds", "knows")
  for (unrelated, seeds, knows), own in _groups(rows, fields):
    assumed = (
      f"The attacker has {knows}. An image is named if it is nearer than "
      f"{unrelated:,} others. {seeds:,} seeds; fresh networks, unless trained."
    )
    made += _block("images from gradients", own, assumed)
    places = ("scene", "condition", "images")
    for (scene, condition, images), found in _groups(own, places):
      made.append(printable(f"  {scene}, {condition} ({images:,} images)"))
      made += [_figure(r) for r in _highest(found)]
    made.append("")
  return made


def _updates(rows: Sequence[Row]) -> list[str]:
  made = []
  fields = ("members", "others", "draw", "label_noise", "seeds")
  for (members, others, draw, noise, seeds), own in _groups(rows, fields):
    assumed = (
      f"{members:,} inputs that were served and {others:,} that were not, "
      f"{draw}. {100 * noise:g} % of the labels are wrong. {seeds:,} seeds; no "
      f"shadow models. {_CHANCE}"
    )
    title = "who was served by a model that goes on learning"
    made += _block(title, own, assumed)
    places = ("condition", "answers", "passes")
    for (condition, _, _), found in _groups(own, places):
      nan = max(r["nan"] for r in found)
      learned = _learned(found[0])
      made.append(f"  {condition}, it learned {learned} ({nan:g} NaN)")
      made += [_figure(r, f"has {r['knows']}") for r in _highest(found)]
    made.append("")
  return made


def _learned(row: Row) -> str:
  if not row["passes"]:
    return "nothing"
  return f"{_LEARNED.get(row['answers'], '')}, {row['passes']:,} x"


def _block(title: str, rows: Sequence[Row], assumed: str) -> list[str]:
  """Return the head of figures of which the highest are shown."""
  tried = len({r["attack"] for r in rows})
  attacks = f"the highest of {tried} attacks" if tried > 1 else "1 attack"
  return _heading(f"{title}, %: {attacks}, with 95 % intervals", assumed)


def _heading(title: str, assumed: str) -> list[str]:
  width = shutil.get_terminal_size((100, 24)).columns
  words = textwrap.wrap(
    printable(assumed),
    max(width, 40),
    initial_indent="  ",
    subsequent_indent="  ",
  )
  return [title, *words]


def _groups(
  rows: Iterable[Row], fields: Sequence[str]
) -> list[tuple[tuple[Any, ...], list[Row]]]:
  """Return rows with the values of some fields, by these values."""
  found: dict[tuple[Any, ...], list[Row]] = {}
  for row in rows:
    found.setdefault(tuple(row.get(f) for f in fields), []).append(row)
  return list(found.items())


def _highest(rows: Sequence[Row]) -> list[Row]:
  """Return the row of each figure with the greatest value.

  Of attacks that are alike, the one with the fewest shadow models.
  """
  return [
    max(own, key=lambda r: (r["value"], -r.get("shadows", 0)))
    for _, own in _groups(rows, ("metric", "fpr"))
  ]


def _percent(row: Row) -> str:
  """Return a share with its interval, also where that is a point."""
  ends = f"{percent(row['low'])} - {percent(row['high'])}"
  return f"{percent(row['value'])} ({ends})"


def _figure(row: Row, *assumed: str) -> str:
  """Return a figure, its interval, its attack and what only it assumes."""
  name = _METRICS.get(row["metric"], "")
  if row["metric"] == "tpr":
    name = f"TPR at FPR {100 * row['fpr']:g} %"
    if not row["resolved"]:
      assumed = (*assumed, "too few others: it is the TPR at FPR 0")
  shown = _percent(row)
  if row["metric"] == "psnr":
    shown = f"{row['value']:.1f} ({row['low']:.1f} - {row['high']:.1f})"
  return printable(
    f"    {name:18} {'; '.join((shown, row['title'], *assumed))}"
  )
