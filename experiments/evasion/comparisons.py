"""Attacks in rows, compared: how many more images one breaks than another."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.evasion import attacks, measure, tasks

Row = Mapping[str, Any]
CONTROLS = ("clean", "noise", "worst")  # Games that are no attacks.
LACK_KEY = ("wrong", "leaked", "no_key", "keys")  # Conditions.


class Comparison(NamedTuple):
  """An attack and the best of its rivals, at one setting.

  Attributes:
    gain: Share of images that it breaks, minus that of the best rival.
    row: Its row.
  """

  gain: float
  row: Row


def attacked(rows: Iterable[Row]) -> list[Row]:
  """Return the rows of attacks that prove something, without controls."""
  return [
    r
    for r in rows
    if r["metric"] == measure.ACCURACY
    and r["value"] is not None
    and r["game"] not in CONTROLS
  ]


def of_game(rows: Iterable[Row], game: str) -> list[Row]:
  """Return the rows of an attack, or of "clean", "noise" or "worst"."""
  return [
    r for r in rows if r["metric"] == measure.ACCURACY and r["game"] == game
  ]


def by_setting(
  rows: Iterable[Row],
) -> dict[tuple[str, str, float], list[Row]]:
  """Return rows by model, norm and epsilon."""
  made: dict[tuple[str, str, float], list[Row]] = {}
  for r in rows:
    where = (r["model_name"], r["norm"], r["epsilon"])
    made.setdefault(where, []).append(r)
  return made


def compare(
  rows: Sequence[Row], is_rival: Callable[[Row, Row], bool]
) -> list[Comparison]:
  """Compare attacks and random changes with their rivals.

  Args:
    rows: All rows.
    is_rival: Whether the second row is a rival of the first; only asked of rows
      of the same model, norm and epsilon.
  """
  found = []
  for members in by_setting(attacked(rows) + of_game(rows, "noise")).values():
    for row in members:
      rivals = [r for r in members if r is not row and is_rival(row, r)]
      if rivals:
        found.append(Comparison(min(gain(row, r) for r in rivals), row))
  return found


def between_models(rows: Sequence[Row]) -> list[Comparison]:
  """Compare changes from other models with those of the model itself."""
  matrix = [r for r in rows if r["metric"] == tasks.TRANSFER]
  own = {
    (r["model_name"], r["epsilon"]): r["value"]
    for r in matrix
    if r["source_name"] == r["model_name"]
  }
  found = []
  for r in matrix:
    source = (r["source_name"], r["epsilon"])
    target = (r["model_name"], r["epsilon"])
    if source != target and source in own and target in own:
      named = {**r, "attack_title": f"changes from {r['source_title']}"}
      found.append(Comparison(r["value"] - own[target], named))
  return found


def gain(row: Row, rival: Row) -> float:
  """Return the share of images that one breaks, minus that of the other.

  Of the images that both have seen: the first ones.
  """
  n = min(row["images"], rival["images"])
  more, fewer = (int(measure.bits(r)[:n].sum()) for r in (row, rival))
  return (more - fewer) / n


def uses_gradient(row: Row) -> bool:
  """Return whether the attack of a row differentiates the model."""
  return attacks.ATTACKS[row["game"]].needs_gradient


def by_holder(row: Row) -> bool:
  """Return whether the holder of the key differentiated the model."""
  return row["condition"] == "right" and uses_gradient(row)
