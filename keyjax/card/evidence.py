"""Rules that answer items of the checklist from measured rows.

Each rule examines the attacks and accuracies of a card, and returns an answer
with its reason, or None if the rows do not decide the item.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from keyjax.attacks import registry

Answer = tuple[str, str] | None
_TRIES = 10_000
_ACCESS = {"knows_scheme", "has_locked", "images", "queries"}


class Found(NamedTuple):
  """Accuracies and attacks, as a card lists them.

  Attributes:
    accuracy: One row for each condition.
    attacks: One row for each attack.
  """

  accuracy: Sequence[Mapping[str, Any]]
  attacks: Sequence[Mapping[str, Any]]


def threat_model(found: Found) -> Answer:
  """Check that all attackers are described, and that one knows the scheme."""
  attackers = [a["attacker"] for a in found.attacks]
  if not attackers or not all(_ACCESS <= set(a) for a in attackers):
    return None
  knowing = sum(bool(a["knows_scheme"]) for a in attackers)
  reason = (
    f"{knowing} of {len(attackers)} attackers know the scheme; each attack "
    "states a goal, what its attacker holds and what they may spend"
  )
  return ("yes" if knowing else "no"), reason


def _is_adaptive(attack: Mapping[str, Any]) -> bool:
  try:
    return registry.ANY not in registry.get(attack["game"]).schemes
  except ValueError:  # A third party's attack: nothing is known about it.
    return False


def adaptive(found: Found) -> Answer:
  """Check that an attack is specific to this scheme.

  Attacks of KeyJAX run on the whole file, end to end.
  """
  games = sorted({a["game"] for a in found.attacks if _is_adaptive(a)})
  return ("yes", "for this scheme: " + ", ".join(games)) if games else None


def clean_accuracy(found: Found) -> Answer:
  """Check that the plain model and the right key have an accuracy."""
  shown = {row["condition"]: row["value"] for row in found.accuracy}
  if not {"plain", "right"} <= set(shown):
    return None
  plain, right = (f"{100 * shown[x]:.2f} %" for x in ("plain", "right"))
  return "yes", f"plain {plain}, right key {right}"


def _curves(found: Found) -> list[Mapping[str, Any]]:
  return [a for a in found.attacks if len(a["curve"]) > 1]


def sanity(found: Found) -> Answer:
  """Check that no curve ends clearly below an earlier point."""
  curves = _curves(found)
  if not curves:
    return None
  falling = [
    a["attack"]
    for a in curves
    if a["curve"][-1]["high"] < max(p["low"] for p in a["curve"])
  ]
  if falling:
    return "no", f"weaker with more budget: {', '.join(falling)}"
  return "yes", f"none of {len(curves)} curves ends below its other points"


def curve(found: Found) -> Answer:
  """Check that an attack has a curve."""
  curves = _curves(found)
  if not curves:
    return None
  return "yes", f"{len(curves)} of {len(found.attacks)} attacks have a curve"


def _function_attacks(found: Found) -> list[Mapping[str, Any]]:
  return [
    a
    for a in found.attacks
    if a["goal"] == "function" and a["condition"] == "wrong"
  ]


def adaptive_wins(found: Found) -> Answer:
  """Check that the best attack on the stolen file's function is adaptive."""
  attacks = _function_attacks(found)
  adaptive_attacks = [a for a in attacks if _is_adaptive(a)]
  other_attacks = [a for a in attacks if not _is_adaptive(a)]
  if not adaptive_attacks or not other_attacks:
    return None
  best = max(adaptive_attacks, key=lambda a: a["value"])
  other = max(other_attacks, key=lambda a: a["value"])
  reason = (
    f"{best['attack']} {100 * best['value']:.2f} %, "
    f"{other['attack']} {100 * other['value']:.2f} %"
  )
  return ("yes" if best["value"] >= other["value"] else "no"), reason


def description(found: Found) -> Answer:
  """Check that every attack has its attacker, budget and setting."""
  if not found.attacks:
    return None
  return "yes", "each attack has its attacker, budget, setting and cost"


def diversity(found: Found) -> Answer:
  """Check that there are several attacks, with more than one goal."""
  games = {a["game"] for a in found.attacks}
  goals = sorted({a["goal"] for a in found.attacks})
  if len(games) < 3 or len(goals) < 2:
    return None
  return "yes", f"{len(games)} attacks after {', '.join(goals)}"


def randomness(found: Found) -> Answer:
  """Check that an attack was played against several keys."""
  games = {a["attack"]: a["budget"].get("trials", 0) for a in found.attacks}
  many = {name: count for name, count in games.items() if count > 1}
  if not many:
    return None
  counts = ", ".join(f"{name} {count}" for name, count in sorted(many.items()))
  return "yes", f"games with a fresh key each: {counts}"


def convergence(found: Found) -> Answer:
  """Check that half the steps gave the same score, up to the intervals."""
  rising = []
  judged = 0
  for attack in _function_attacks(found):
    last = attack["curve"][-1] if attack["curve"] else None
    half = [
      p for p in attack["curve"] if last and 2 * p["steps"] <= last["steps"]
    ]
    if last is None or not half:
      continue
    judged += 1
    if last["low"] > half[-1]["high"]:
      rising.append(attack["attack"])
  if not judged:
    return None
  if rising:
    return "no", f"still rising at the end: {', '.join(rising)}"
  return "yes", f"{judged} attacks were no better than with half their steps"


def hyperparameters(found: Found) -> Answer:
  """Check that every attack on the function tried several settings."""
  attacks = _function_attacks(found)
  swept = [a for a in attacks if a["details"].get("settings", 1) > 1]
  if not attacks or len(swept) < len(attacks):
    return None
  return "yes", f"{len(swept)} attacks on the function report the best setting"


def random_noise(found: Found) -> Answer:
  """Check that enough random keys were tried."""
  tries = sum(r["keys"] for r in found.accuracy if r["condition"] == "wrong")
  tries += sum(
    a["cost"]["steps"] for a in found.attacks if a["game"] == "random_keys"
  )
  if not tries:
    return None
  return ("yes" if tries >= _TRIES else "no"), f"{tries} random keys"
