"""A security card as lines of text."""

import io
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box, console, table, text

from keyjax.attacks import verdict
from keyjax.card import unknown_mechanisms
from keyjax.card.collect import MOSTLY_NONFINITE
from keyjax.cli.output import printable, size
from keyjax.defenses.private.accountant import in_words


def lines(card: Mapping[str, Any]) -> list[str]:
  """Return a summary of a card.

  Args:
    card: Card whose form was checked; its signature need not be.
  """
  return [
    *_head(card),
    "",
    *_table(
      f"{card['data'].get('metric', 'accuracy')}, %",
      ("condition", "value", "95 %", "keys"),
      map(_accuracy, card["accuracy"]),
    ),
    *_table(
      "attacks, %",
      ("attack", "goal", "score", "95 %", "steps", "queries", "seconds"),
      map(_attack, card["attacks"]),
    ),
    *_evasions(card.get("evasion", [])),
    *(f"not played: {x['attack']}: {x['note']}" for x in card["not_played"]),
    *_table(
      "checklist (arXiv 1902.06705)",
      ("question", "answer", "because"),
      (
        (x["asks"], x["answer"], f"{x['because']} ({x['by']})")
        for x in card["checklist"]
        if x["by"] != "nobody"
      ),
    ),
    "not answered: "
    + (
      ", ".join(x["item"] for x in card["checklist"] if x["by"] == "nobody")
      or "nothing"
    ),
  ]


def _head(card: Mapping[str, Any]) -> list[str]:
  scheme = card["scheme"]
  data = card["data"]
  model = card["model"]
  unknown = unknown_mechanisms(card)
  parts = [
    f"{p['mechanism']}: {p['class']}"
    + (" (as stated; not known here)" if p["mechanism"] in unknown else "")
    for p in scheme["parts"]
  ]
  bits = scheme.get("key_bits")
  keys = [f"{k['fingerprint']} {k['version']}" for k in card["keys"]]
  signature = card.get("signature")
  signed = "no"
  if signature:
    signed = f"by {signature['key']}, not verified here: see check"
  digest = "none"
  if model:
    digest = (
      f"{model['sha256']}, {model['files']} files, {size(model['bytes'])}"
    )
  runs = [
    f"run         {r['date']}, {r['commit']}, {r['hardware']}: {r['command']}"
    for r in card["runs"]
  ]
  return [
    f"scheme      {scheme['label']} ({scheme['title']})",
    f"class       {'; '.join(parts)}",
    *([f"key space   {bits:.1f} bits"] if bits is not None else []),
    f"known break {verdict.known(*_mechanism(card)).breaks}",
    f"verdict     {_verdict(card)}",
    *(f"key         {key.strip()}" for key in keys),
    f"data        {data['dataset']}, {data['model']}",
    *_privacy(card),
    f"model       {digest}",
    f"signed      {signed}",
    *runs,
  ]


def _privacy(card: Mapping[str, Any]) -> list[str]:
  """Return the line of epsilon and its assumptions; most cards have none."""
  if "privacy" not in card:
    return []
  return [f"privacy     {printable(in_words(card['privacy']))}"]


def _mechanism(card: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
  parts = [(p["mechanism"], p["options"]) for p in card["scheme"]["parts"]]
  return parts[0] if len(parts) == 1 else ("chain", {"parts": parts})


def _verdict(card: Mapping[str, Any]) -> str:
  """Return the verdict, given the attacks on the card."""
  classes = card["data"]["classes"]
  rows = [
    {**x, "metric": x["goal"], "attack_title": x["title"], "classes": classes}
    for x in card["attacks"]
  ]
  return printable(verdict.in_words(*_mechanism(card), rows))


def _percent(value: float) -> str:
  return f"{100 * value:.2f}"


def _span(row: Mapping[str, Any]) -> str:
  if row["low"] == row["high"]:  # One game, or keys that are all alike.
    return "-"
  return f"{_percent(row['low'])} - {_percent(row['high'])}"


def _accuracy(row: Mapping[str, Any]) -> Sequence[str]:
  bad = row["nonfinite"] / max(row["images"] * row["keys"], 1)
  value = _percent(row["value"])
  span = _span(row)
  if bad >= MOSTLY_NONFINITE:  # An argmax of NaN is always the first class.
    value = "-"
    span = f"{_percent(bad)} not finite: proves nothing"
  return (row["condition"], value, span, str(row["keys"]))


def _attack(row: Mapping[str, Any]) -> Sequence[str]:
  cost = row["cost"]
  return (
    row["title"],
    row["goal"],
    _percent(row["value"]),
    _span(row),
    f"{cost['steps']:,}",
    f"{cost['queries']:,}",
    f"{cost['seconds']:.3g}",
  )


def _evasions(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  if not rows:  # Most cards have none, and older ones no such field.
    return []
  columns = ("attack", "by", "epsilon", "value", "95 %", "queries")
  return _table("accuracy on changed inputs, %", columns, map(_evasion, rows))


def _evasion(row: Mapping[str, Any]) -> Sequence[str]:
  return (
    row["title"],
    row["condition"],
    f"{row['epsilon']:g} {row['norm']}",
    _percent(row["value"]),
    _span(row),
    f"{row['queries']:,.0f}",
  )


def _table(
  title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]
) -> list[str]:
  found = list(rows)
  if not found:
    return [f"{title}: none", ""]
  grid = table.Table(title=title, title_justify="left", box=box.ASCII)
  for name in columns:
    grid.add_column(name, overflow="fold")
  for row in found:
    # Cells are not trusted: no markup, no control characters.
    grid.add_row(*(text.Text(printable(cell)) for cell in row))
  buffer = io.StringIO()
  width = shutil.get_terminal_size((100, 24)).columns
  console.Console(file=buffer, width=width, no_color=True).print(grid)
  return [line.rstrip() for line in buffer.getvalue().splitlines()] + [""]
