"""Which attacks exist, and which apply to a scheme.

An attack registers itself where it is written: a new one is one new module in a
folder of `keyjax.attacks`, and nothing else changes. A scheme that is unknown
here is met by the attacks on `ANY` scheme, so a new one has its row in the
matrix as soon as it exists.
"""

import contextlib
import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
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
  classes_only: bool = False,
) -> Callable[[AttackFn], AttackFn]:
  """Register the decorated function as an attack.

  Args:
    name: Name of the attack in rows and configs.
    goal: Goal of the attack.
    schemes: Names of the schemes that it applies to, or `(ANY,)`, or
      `(FROM_SECRET,)` for attacks that make keys of their own.
    needs: The least that its attacker holds.
    grid: Settings that a sweep tries.
    referee: Function that scores its claims; by default the goal's.
    condition: `wrong`, `api` or `right`; see `Attack`.
    classes_only: Whether it needs one class for each example, as those on the
      goal `TRANSFER` always do.

  Raises:
    ValueError: If the name is taken.
  """
  if name in _ATTACKS:
    raise ValueError(f"an attack {name!r} is registered already")

  def add(run: AttackFn) -> AttackFn:
    _ATTACKS[name] = Attack(
      name=name,
      goal=goal,
      run=run,
      schemes=tuple(schemes),
      needs=needs,
      grid=grid,
      referee=referee,
      condition=condition,
      classes_only=classes_only or goal == Goal.TRANSFER,
    )
    return run

  return add


@functools.cache
def load() -> None:
  """Import every module below `keyjax.attacks`, so that all attacks register.

  `load.cache_clear()` makes the next call look for new modules.
  """
  for module in pkgutil.walk_packages(attacks.__path__, "keyjax.attacks."):
    importlib.import_module(module.name)


@contextlib.contextmanager
def temporary() -> Iterator[None]:
  """Forget the attacks that are registered in the block when it ends."""
  load()
  before = dict(_ATTACKS)
  try:
    yield
  finally:
    _ATTACKS.clear()
    _ATTACKS.update(before)


def get(name: str) -> Attack:
  """Return an attack by name.

  Raises:
    ValueError: If there is no such attack; the message lists the known ones.
  """
  load()
  if name not in _ATTACKS:
    known = ", ".join(_ATTACKS)
    raise ValueError(f"unknown attack {name!r}; known: {known}")
  return _ATTACKS[name]


def every() -> list[Attack]:
  """Return all attacks, in order of registration."""
  load()
  return list(_ATTACKS.values())


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
