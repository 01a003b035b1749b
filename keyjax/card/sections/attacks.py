"""What each attack achieved: rows of `experiments.attack`."""

from collections.abc import Sequence
from typing import Any

from keyjax.card.rows import INTERVAL, Row, require, run_of

_NAMES = ("attack", "attack_title", "game", "condition")
_EFFORT = ("attacker", "budget", "cost", "curve", "setting", "details")


def is_row(row: Row) -> bool:
  """Return whether a row names an attack; other sections have some, too."""
  return row.get("attack", "") != ""


def entry(row: Row, runs: Sequence[Row]) -> dict[str, Any]:
  """Return what a card keeps of the row of an attack that was played."""
  what = f"the attack {row['attack']!r:.80}"
  attack = require(row, (*_NAMES, *INTERVAL, *_EFFORT), what)
  if row.get("right") is not None:
    attack["right"] = row["right"]
  attack["title"] = attack.pop("attack_title")
  attack["goal"] = row.get("metric")
  return attack | run_of(row, runs)


def not_played(row: Row) -> dict[str, Any]:
  """Return what a card keeps of the row of an attack that was not."""
  kept = require(
    row,
    ("attack", "note"),
    f"the attack {row['attack']!r:.80}, which has no value,",
    "a row has a score, or says why there is none",
  )
  return {"attack": kept["attack"], "note": str(kept["note"])}
