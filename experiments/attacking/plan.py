"""What a config asks for: pairs of a scheme and an attack, checked first.

Most attacks are games of `keyjax.attacks.registry` against one locked model.
Two measure something else: `search_cost` prices the trial of every key, and
`property_inference` judges many small networks at once.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from experiments.attacking import property_inference, rows, search_cost
from experiments.run.config import attack as attack_spec
from experiments.run.config import meaning, set_attacks
from keyjax.attacks import registry
from keyjax.attacks.game import Attacker

MEASUREMENTS = {
  search_cost.NAME: search_cost.applies,
  property_inference.NAME: property_inference.applies,
}
PICTURED = "pixel_jigsaw"
ALL = ".*"


def with_default(config: ConfigDict) -> ConfigDict:
  """Return a config with attacks: without any, the price of every key."""
  if "attacks" in config:
    return config
  priced = ConfigDict(dict(config.items()))
  set_attacks(
    priced, search_cost=attack_spec(search_cost.NAME, "trying every key")
  )
  return priced


def check(config: ConfigDict) -> None:
  """Check `config.attacks` before anything is trained.

  Raises:
    ValueError: If an attack, a field of an attacker, a number or a pattern is
      wrong, or if no attack applies to a scheme; the message says which.
  """
  for label in config.attacks:
    _check_attack(config, label)
  if not any(fits for _, _, fits in _chosen(config)):
    raise ValueError("no attack of the config applies to one of its schemes")


def _check_attack(config: ConfigDict, label: str) -> None:
  spec = config.attacks[label]
  if spec.attack not in MEASUREMENTS:
    _check_game(label, spec)
  unknown = sorted(set(spec.attacker) - set(vars(Attacker())))
  if unknown:
    raise ValueError(
      f"attacks.{label}: an attacker has no field {', '.join(unknown)}; known: "
      f"{', '.join(vars(Attacker()))}"
    )
  for field, least in (
    ("steps", 0),
    ("points", 1),
    ("trials", 0),
    ("seeds", 1),
  ):
    value = spec.get(field, least)
    if value < least:
      raise ValueError(
        f"attacks.{label}.{field}={value}: must be at least {least}"
      )
  if spec.trials and spec.get("seeds", 1) > 1:
    raise ValueError(f"attacks.{label}: trials have seeds of their own")
  if not 0 <= spec.fraction <= 1:
    raise ValueError(
      f"attacks.{label}.fraction={spec.fraction}: must be from 0 to 1"
    )
  try:
    re.compile(spec.schemes)
  except re.error as error:
    raise ValueError(
      f"attacks.{label}.schemes={spec.schemes!r}: {error}"
    ) from None
  if spec.attack == property_inference.NAME:
    property_inference.check(config, label)


def _check_game(label: str, spec: ConfigDict) -> None:
  try:
    registry.get(spec.attack)
  except ValueError as error:
    raise ValueError(
      f"attacks.{label}: {error}, {', '.join(MEASUREMENTS)}"
    ) from None
  if spec.get("picture") and (spec.attack != PICTURED or spec.trials):
    raise ValueError(
      f"attacks.{label}.picture: only {PICTURED} without trials restores images"
    )


def pairs(config: ConfigDict, only: str = ALL) -> list[tuple[str, str]]:
  """Return (scheme, attack) labels, one scheme after the other.

  Args:
    config: Config with `schemes` and `attacks`.
    only: Regular expression of the pairs `SCHEME/ATTACK` to return.

  Raises:
    ValueError: If `only` is not a regular expression, or matches no pair.
  """
  try:
    wanted = re.compile(only)
  except re.error as error:
    raise ValueError(f"--only={only!r}: {error}") from None
  found = [(s, label) for s, label, fits in _chosen(config) if fits]
  chosen = [p for p in found if wanted.fullmatch("/".join(p))]
  if found and not chosen:
    raise ValueError(
      f"--only={only!r} matches no pair of the config, such as "
      f"{'/'.join(found[0])}"
    )
  return chosen


def unfit(config: ConfigDict) -> dict[str, list[str]]:
  """Return the schemes chosen for an attack that does not apply to them."""
  found: dict[str, list[str]] = {}
  for scheme, label, fits in _chosen(config):
    if not fits:
      found.setdefault(label, []).append(scheme)
  return found


def _chosen(config: ConfigDict) -> Iterator[tuple[str, str, bool]]:
  """Yield the pairs that the config chooses, and whether they fit."""
  for scheme, spec in config.schemes.items():
    for label, attack in config.attacks.items():
      if re.fullmatch(attack.schemes, scheme):
        yield scheme, label, _applies(attack.attack, spec.scheme)


def _applies(attack: str, mechanism: str) -> bool:
  if attack in MEASUREMENTS:
    return MEASUREMENTS[attack](mechanism)
  return registry.applies(registry.get(attack), mechanism)


def needs_versions(config: ConfigDict) -> bool:
  """Return whether some attacker holds a base model or another file."""
  attackers = [rows.attacker_of(spec, 1) for spec in config.attacks.values()]
  return any(a.has_base or a.copies for a in attackers)


def licensees(config: ConfigDict) -> dict[str, int]:
  """Return the number of licensees' files that some attacker holds, by scheme.

  Returns:
    Scheme label -> number of files.
  """
  most = dict.fromkeys(config.schemes, 0)
  for scheme, label in pairs(config):
    held = rows.attacker_of(config.attacks[label], 1).licensees
    most[scheme] = max(most[scheme], held)
  return most


def row_name(config: ConfigDict, scheme: str, label: str) -> str:
  """Return a row's name: a hash of everything that its figures depend on."""
  fields: dict[str, Any] = meaning(config)
  hashed = {
    k: v for k, v in fields.items() if k not in ("schemes", "attacks", "name")
  }
  hashed["scheme"] = fields["schemes"][scheme]
  hashed["attack"] = fields["attacks"][label]
  text = json.dumps(hashed, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]
