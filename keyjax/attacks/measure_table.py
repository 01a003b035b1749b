"""The rows of `measure.lock` as text, ending in the verdict in words."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from keyjax.arguments import first_line
from keyjax.attacks import held, verdict
from keyjax.attacks.game import Goal
from keyjax.schemes import registry as schemes

CONTROL = "scratch"
_MOSTLY_NONFINITE = 0.5  # From here an accuracy is that of NaN, as on cards.
_DATA = ("value", "metric", "judged_by", "condition", "mechanism", "options")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
  """Return the rows of `lock` as text, ending in the verdict in words.

  Raises:
    ValueError: If there are none, or they are no rows of one lock.
  """
  rows = list(rows)
  if not rows or not all(all(k in r for k in _DATA) for r in rows):
    raise ValueError("rows: pass those that measure.lock returns")
  first = rows[0]
  lock_of = first["mechanism"], first["options"]
  if any((r["mechanism"], r["options"]) != lock_of for r in rows):
    raise ValueError("rows of more than one lock: make a table of each")
  if "right" not in _judged(rows):
    raise ValueError("rows: none has the accuracy with the key")
  try:
    return _text(rows)
  except (KeyError, TypeError) as error:
    raise ValueError(
      f"rows: pass those that measure.lock returns ({first_line(error)})"
    ) from None


def _text(rows: Sequence[Mapping[str, Any]]) -> str:
  lines = [f"{_name(r):34}{score(r)}" for r in rows if r["value"] is not None]
  lines += [f"{_name(r):34}{score(r)}" for r in rows if r["value"] is None]
  lock_of = rows[0]["mechanism"], rows[0]["options"]
  stated = verdict.known(*lock_of)
  played = [r for r in rows if "attack" in r]
  found = verdict.in_words(*lock_of, played, played)
  if stated.security_class not in (schemes.NONE, schemes.DETECTION):
    found += "".join(f"; {x}" for x in _cautions(rows, _judged(rows)))
  return "\n".join([*lines, f"{stated.security_class}; {found}"])


def _judged(
  rows: Sequence[Mapping[str, Any]],
) -> dict[str, Mapping[str, Any]]:
  """Return the rows of accuracies that have a number, by condition."""
  return {
    r["condition"]: r
    for r in rows
    if "attack" not in r and r["metric"] == r["judged_by"]
    if r["value"] is not None
  }


def _cautions(
  rows: Sequence[Mapping[str, Any]], judged: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
  """Say what no attack shows: what is left without any, and what is moot."""
  if rows[0]["mechanism"] == "chain":
    yield "attacks on its parts alone were not played"
  right = judged["right"]
  for condition, who in (("no_key", "no key"), ("wrong", "wrong keys")):
    row = judged.get(condition)
    if row is None or _meaningless(row):
      continue
    made = {**row, "metric": Goal.FUNCTION, "right": right["value"]}
    if verdict.progress(made) >= verdict.WEAKENED:
      yield f"with {who}: {_amount(row)}"
  if any(
    verdict.over(right, r).low <= 0
    for r in rows
    if r.get("attack") == CONTROL and r["value"] is not None
  ):
    yield (
      "these test data do not tell training from scratch from the owner's model"
    )


def _meaningless(row: Mapping[str, Any]) -> bool:
  """Return whether a score is mostly that of NaN."""
  share = row["nonfinite"] / (row["images"] * row["keys"])
  return bool(share > _MOSTLY_NONFINITE)


def _name(row: Mapping[str, Any]) -> str:
  if "attack" in row:
    return str(row["attack_title"])
  return {"key_bits": "key space"}.get(
    row["metric"], f"{row['metric']}, {row['condition'].replace('_', ' ')}"
  )


def score(row: Mapping[str, Any]) -> str:
  """Return the score of a row in words, with what its attacker held."""
  if row["value"] is None:
    unplayed = "attack" in row and "cost" not in row
    return ("not played: " if unplayed else "") + str(row["note"])
  if row["metric"] == "key_bits":
    return f"{row['value']:.1f} bits"
  if row["metric"] == Goal.FORGE:
    return "a changed file opens" if row["value"] == 1 else "no forgery"
  text = _amount(row)
  if "attack" in row:
    of = "" if row["metric"] == Goal.FUNCTION else f" of the {row['metric']}"
    return text + of + _given(row["attacker"])
  bad = row["nonfinite"] / (row["images"] * row["keys"])
  return text + (f"; {100 * bad:.0f} % not finite" if bad else "")


def _amount(row: Mapping[str, Any]) -> str:
  """Return a score with its interval, in percent if it is a share."""
  ends = [row[x] for x in ("value", "low", "high")]
  is_share = row.get("is_share", True) or row["metric"] in ("key", "weights")
  shown = [f"{100 * x:.1f}" if is_share else f"{x:.3g}" for x in ends]
  text = f"{shown[0]} %" if is_share else shown[0]
  return text + (f" ({shown[1]} to {shown[2]})" if ends[1] < ends[2] else "")


def _given(attacker: Mapping[str, Any]) -> str:
  words = held.in_words(attacker) or ["the file alone"]
  return f", with {', '.join(words)}"
