"""What gradients and on-line updates record: rows of `experiments.recording`.

They are figures over seeds; rows of one seed have no interval. The network is
the one that a row names: if the other rows of a card name another one, they
disagree, and are refused.
"""

from collections.abc import Sequence
from typing import Any

from keyjax.card.rows import INTERVAL, Row, require, run_of
from keyjax.card.sections import membership

PARTS = ("gradients", "online")
_SHOWN = ("named", "psnr", "labels")
_NAMES = ("attack", "attack_title", "condition", "seeds", "knows")
_GRADIENT = ("metric", "scene", "trained", "images", "unrelated")
_UPDATE = (
  "answers",
  "passes",
  "members",
  "others",
  "draw",
  "label_noise",
  "nan",
)
_WHY = (
  "a privacy figure is not shown without it; use WORKDIR/recording.json of "
  "experiments.recording"
)


def is_gradient(row: Row) -> bool:
  """Return whether a row says how much of an image a gradient tells."""
  return row.get("part") == PARTS[0] and row.get("metric") in _SHOWN


def is_update(row: Row) -> bool:
  """Return whether a row says how much an update tells of who was served."""
  return row.get("part") == PARTS[1] and membership.is_leak(row)


def order(row: Row) -> tuple[str, ...]:
  """Return the place of a row on a card."""
  names = ("condition", "scene", "answers", "passes", "attack", "metric")
  return tuple(str(row.get(name, "")) for name in names)


def gradient(row: Row, runs: Sequence[Row]) -> dict[str, Any]:
  """Return what a card keeps of a row about a gradient."""
  return _entry(row, _GRADIENT) | run_of(row, runs)


def update(row: Row, runs: Sequence[Row]) -> dict[str, Any]:
  """Return what a card keeps of a row about an update."""
  figure = membership.figure(row, _what(row), _WHY)
  return _entry(row, _UPDATE) | figure | run_of(row, runs)


def _what(row: Row) -> str:
  return f"the recording by {row['attack']!r:.80}"


def _entry(row: Row, fields: Sequence[str]) -> dict[str, Any]:
  names = (*_NAMES, *fields, *INTERVAL)
  # An empty mechanism is that of a row which does not say whose it is.
  mechanism = {"mechanism": row.get("mechanism") or None}
  require(mechanism, ("mechanism",), _what(row), _WHY)
  kept = require(row, names, _what(row), _WHY)
  kept["title"] = kept.pop("attack_title")
  return kept
