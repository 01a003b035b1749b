"""What attackers hold, in words: the same in tables, verdicts and documents."""

from collections.abc import Mapping
from typing import Any

# One, and many of it.
COUNTED = {
  "queries": ("query", "queries"),
  "images": ("labelled image", "labelled images"),
  "ciphertexts": ("transformed image", "transformed images"),
  "known_weights": ("known weight", "known weights"),
  "copies": ("other file under the key", "other files under the key"),
  "licensees": ("file of another licensee", "files of other licensees"),
}
_GRANTED = {
  "has_base": "the public base model",
  "knows_scheme": "to know the scheme",
  "has_locked": "the file",
  "schedule": "the map of the device",
}


def in_words(attacker: Mapping[str, Any]) -> list[str]:
  """Return what an attacker holds beside the file and the scheme.

  Args:
    attacker: Fields of an `Attacker`.

  Example:
    >>> from keyjax.attacks.game import Attacker
    >>> in_words(vars(Attacker(images=1200, has_base=True)))
    ['1,200 labelled images', 'the public base model']
  """
  held = dict(attacker)
  if held["queries"]:
    held["images"] = 0  # They are what is asked.
  shown = (*COUNTED, "has_base")
  return [one(name, int(held[name])) for name in shown if held[name]]


def one(name: str, count: int) -> str:
  """Return a number of one kind, in words.

  Example:
    >>> one("licensees", 1), one("has_base", 1)
    ('1 file of another licensee', 'the public base model')
  """
  if name not in COUNTED:
    return _GRANTED.get(name, name)
  return f"{count:,} {COUNTED[name][count != 1]}"
