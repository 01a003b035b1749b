"""Which attacks there are, and which apply to a scheme.

An attack registers itself where it is written; importing
`keyjax.attacks` registers all that the library has. A scheme that is
not known here is met by the attacks for `ANY` scheme, so a new one has its row
in the matrix as soon as it exists.
"""

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keyjax import attacks
from keyjax.attacks.game import Attack, Attacker, AttackFn, Goal, Referee
from keyjax.schemes import registry as schemes

ANY = ".any"
FROM_SECRET = ".from_secret"  # Keys are made from a secret and shapes.
_ATTACKS: dict[str, Attack] = {}


def register(
  name: str,
  goal: Goal,
  schemes: Sequence[str],
  needs: Attacker,
  grid: Sequence[Mapping[str, Any]] = ({},),
  referee: Referee | None = None,
  condition: str = "wrong",
) -> Callable[[AttackFn], AttackFn]:
  """Register the decorated function as an attack.

  Args:
    name: What rows call it.
    goal: What it is after.
    schemes: Names of schemes, or `(ANY,)`, or `(FROM_SECRET,)` for attacks
      that make keys of their own.
    needs: The least that its attacker holds.
    grid: The settings that a sweep tries.
    referee: Scores its claims; by default the goal's.
    condition: `wrong`, `api` or `right`; see `Attack`.

  Raises:
    ValueError: The name is taken.
  """
  if name in _ATTACKS:
    raise ValueError(f"an attack {name!r} is registered already")

  def add(run: AttackFn) -> AttackFn:
    _ATTACKS[name] = Attack(
      name, goal, run, tuple(schemes), needs, grid, referee, condition
    )
    return run

  return add


@functools.cache
def load() -> None:
  """Import every module below `keyjax.attacks`, so that all register."""
  for module in pkgutil.walk_packages(attacks.__path__, "keyjax.attacks."):
    importlib.import_module(module.name)


def get(name: str) -> Attack:
  """Return an attack by name.

  Raises:
    ValueError: There is none; it lists what there is.
  """
  load()
  if name not in _ATTACKS:
    known = ", ".join(_ATTACKS)
    raise ValueError(f"unknown attack {name!r}; known: {known}")
  return _ATTACKS[name]


def applicable(scheme: str) -> list[Attack]:
  """Return the attacks that apply to a scheme, in order of registration."""
  load()
  return [a for a in _ATTACKS.values() if applies(a, scheme)]


def applies(attack: Attack, scheme: str) -> bool:
  """Return whether an attack applies to a scheme."""
  if ANY in attack.schemes or scheme in attack.schemes:
    return True
  entry = schemes.find(scheme)
  return (
    FROM_SECRET in attack.schemes
    and entry is not None
    and entry.key_source is schemes.KeySource.SECRET
  )
