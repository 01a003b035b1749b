"""A security card as lines of text."""

from collections.abc import Mapping, Sequence
from typing import Any

from keyjax.attacks import verdict
from keyjax.card import unknown_mechanisms
from keyjax.card.sections.accuracy import MOSTLY_NONFINITE
from keyjax.cli import card_leaks
from keyjax.cli.card_table import lines as table
from keyjax.cli.card_table import percent, span
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
    *table(
      f"{card['data'].get('metric', 'accuracy')}, %",
      ("condition", "value", "95 %", "keys"),
      map(_accuracy, card["accuracy"]),
    ),
    *table(
      "attacks, %",
      ("attack", "goal", "score", "95 %", "steps", "queries", "seconds"),
      map(_attack, card["attacks"]),
    ),
    *_evasions(card.get("evasion", [])),
    *card_leaks.lines(card.get("leaks", {})),
    *(f"not played: {x['attack']}: {x['note']}" for x in card["not_played"]),
    *table(
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


def _accuracy(row: Mapping[str, Any]) -> Sequence[str]:
  bad = row["nonfinite"] / max(row["images"] * row["keys"], 1)
  value, ends = percent(row["value"]), span(row)
  if bad >= MOSTLY_NONFINITE:  # An argmax of NaN is always the first class.
    value = "-"
    ends = f"{percent(bad)} not finite: proves nothing"
  return (row["condition"], value, ends, str(row["keys"]))


def _attack(row: Mapping[str, Any]) -> Sequence[str]:
  cost = row["cost"]
  return (
    row["title"],
    row["goal"],
    percent(row["value"]),
    span(row),
    f"{cost['steps']:,}",
    f"{cost['queries']:,}",
    f"{cost['seconds']:.3g}",
  )


def _evasions(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  if not rows:  # Most cards have none, and older ones no such field.
    return []
  columns = ("attack", "by", "epsilon", "value", "95 %", "queries")
  return table("accuracy on changed inputs, %", columns, map(_evasion, rows))


def _evasion(row: Mapping[str, Any]) -> Sequence[str]:
  return (
    row["title"],
    row["condition"],
    f"{row['epsilon']:g} {row['norm']}",
    percent(row["value"]),
    span(row),
    f"{row['queries']:,.0f}",
  )
