"""What is known against a lock, in words: the one place that decides it.

Tables, reports and cards show the security class, the best known break and a
verdict next to each scheme. A scheme states class and break where it registers;
the verdict also counts the attacks that were played, as rows:

- only attacks on the stolen file count: a key protects files, not functions;
- an attack that fits any scheme, such as fine-tuning, trains a network by
  itself, so it counts by its gain over training from scratch;
- no attack counts that has labelled images and does no better with them than
  training from scratch.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from keyjax.attacks import intervals, registry
from keyjax.schemes import registry as schemes

Row = Mapping[str, Any]
# Share of the way from chance to the owner's model, or of the key or weights.
_BROKEN = 0.9
WEAKENED = 0.5
_NO_BREAK = "no break known"
_SCRATCH = "scratch"  # The control of attacks that train.
_ON_THE_FILE = ("key", "weights", "function")


class Known(NamedTuple):
  """What a scheme's own file states.

  Attributes:
    security_class: Class, of a chain those of its parts.
    breaks: Best known break, in words.
    broken: Whether there is one.
  """

  security_class: str
  breaks: str
  broken: bool


class Gain(NamedTuple):
  """Gain of stolen weights over training from scratch."""

  value: float
  low: float
  high: float


def known(mechanism: str, options: Mapping[str, Any]) -> Known:
  """Return the class and the best known break of a scheme.

  Args:
    mechanism: Name in `keyjax.schemes.registry`, or `chain`.
    options: Arguments of the scheme.

  Example:
    >>> known("deep_lock", {}).breaks
    'four known float32 weights, such as zero biases, give the master key'
    >>> known("deep_lock", {"schedule": "counter"}).breaks
    'no break known'
  """
  parts = schemes.parts(mechanism, options)
  classes = [schemes.security_class(n, o) for n, o in parts]
  breaks = [schemes.known_break(n, o) for n, o in parts]
  # Whoever breaks a chain breaks each of its parts.
  if any(text == "" for text in breaks):
    breaks = [""]
  stated = [text for text in breaks if text is not None]
  text = "; ".join(dict.fromkeys(stated)) if stated else "not stated"
  return Known(
    security_class="; ".join(dict.fromkeys(classes)),
    breaks=text or _NO_BREAK,
    broken=any(stated),
  )


def in_words(
  mechanism: str,
  options: Mapping[str, Any],
  rows: Sequence[Row] = (),
  baselines: Sequence[Row] = (),
) -> str:
  """Return the verdict on a lock.

  Args:
    mechanism: Name of the scheme, or `chain`.
    options: Its arguments.
    rows: Attacks that were played against it: rows of `experiments.attack`.
    baselines: Rows among which those of training from scratch are.

  Example:
    >>> in_words("deep_lock", {})[:40]
    'broken by: four known float32 weights, s'
    >>> in_words("deep_lock", {"schedule": "counter"})
    'no break known'
  """
  stated = known(mechanism, options)
  if stated.security_class == schemes.NONE:
    return "no lock"
  played = [r for r in rows if r["value"] is not None]
  # A mark protects no function: it is broken by what no longer shows it.
  traced = stated.security_class == schemes.DETECTION
  aimed = {a.name for a in registry.every() if mechanism in a.schemes}
  on_file = [
    r
    for r in played
    if r["metric"] in _ON_THE_FILE and r["condition"] == "wrong"
    if r["game"] != _SCRATCH
  ]
  gains = {i: gain(r, baselines) for i, r in enumerate(on_file)}
  judged = [
    (0.0 if no_better(r, baselines) else _reached(r, gains[i]), r)
    for i, r in enumerate(on_file)
    if gains[i] or not fits_any(r["game"])
    if not traced or r["game"] in aimed
  ]
  unjudged = 0 if traced else len(on_file) - len(judged)
  end = "".join(f"; {x}" for x in _asides(played, unjudged))
  declared = f"broken by: {stated.breaks}" if stated.broken else stated.breaks
  if not judged:
    return declared + end
  reached, best = max(judged, key=lambda x: x[0])
  if reached >= _BROKEN:
    return f"broken by: {_named(best)}{end}"
  found = f"holds against the {_many(len(judged))} run"
  if reached >= WEAKENED:
    found = f"weakened by: {_named(best)}"
  return f"{found}; {declared}{end}"


def _many(attacks: int) -> str:
  return "1 attack" if attacks == 1 else f"{attacks} attacks"


def _reached(row: Row, over_scratch: Gain | None) -> float:
  """Return the progress of an attack; 0 if scratch does as well."""
  if over_scratch and over_scratch.low <= 0:
    return 0.0
  return progress(row)


def fits_any(game: str) -> bool:
  """Return whether an attack fits any scheme, as fine-tuning does."""
  try:
    return registry.ANY in registry.get(game).schemes
  except ValueError:  # A third party's attack.
    return False


def no_better(row: Row, rows: Sequence[Row]) -> bool:
  """Return whether an attack does no better than training from scratch.

  Only attacks on the function that have labelled images are compared, with
  training from scratch on as many.

  Args:
    row: The attack.
    rows: Rows among which those of training from scratch are.
  """
  images = row["attacker"]["images"]
  if row["metric"] != "function" or not images:
    return False
  return any(
    over(row, other).low <= 0
    for other in rows
    if other["game"] == _SCRATCH and other["attacker"]["images"] == images
    if other["value"] is not None
  )


def over(row: Row, other: Row) -> Gain:
  """Return by how much one score is above another."""
  mine, theirs = ((r["value"], r["low"], r["high"]) for r in (row, other))
  low, high = intervals.difference(mine, theirs)
  return Gain(row["value"] - other["value"], low, high)


def _named(row: Row) -> str:
  return f"{row['attack_title']} ({100 * row['value']:.1f} %)"


def _asides(played: Sequence[Row], unjudged: int) -> list[str]:
  """Return what a file under this lock reveals or accepts all the same."""
  leaks = [
    _named(r)
    for r in played
    if r["metric"] == "distinguish" and r["low"] > 0.5
    # What a service answers with the key is no matter of the lock.
    if r["condition"] != "api"
  ]
  forged = any(r["metric"] == "forge" and r["value"] == 1 for r in played)
  return [
    *([f"leaks: {', '.join(leaks)}"] if leaks else []),
    *(["malleable: a changed file opens"] if forged else []),
    *(
      [f"{_many(unjudged)} without a baseline from scratch"] if unjudged else []
    ),
  ]


def progress(row: Row) -> float:
  """Return how far an attacker got towards the goal, from 0 to 1."""
  value = row["value"] or 0.0
  chance = 0.0
  most = 1.0
  if row["metric"] == "function":
    chance = row.get("chance", 1 / (row.get("classes") or 10))
    most = row.get("right") or 1.0
  if row["metric"] == "distinguish":
    chance = 0.5
  if most <= chance:  # The owner's own model has learned nothing.
    return 0.0
  return float(min(1.0, max(0.0, (value - chance) / (most - chance))))


def gain(row: Row, rows: Sequence[Row]) -> Gain | None:
  """Return a fine-tuning row's gain over the row from scratch, if any.

  Training from scratch has as many images and takes as many steps.
  """
  if row["game"] != "fine_tune" or row["value"] is None:
    return None
  for other in rows:
    if (
      other["game"] == _SCRATCH
      and other["value"] is not None
      and other["attacker"]["images"] == row["attacker"]["images"]
      and other["cost"]["steps"] == row["cost"]["steps"]
    ):
      return over(row, other)
  return None
