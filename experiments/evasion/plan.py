"""What a config asks for: models x attacks, checked before anything runs.

A model is a scheme and a defence, `SCHEME/DEFENSE`. An attack is computed by
the holder of a key, of none or of queries, and always judged on the model that
is served.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from experiments.evasion import attacks
from experiments.run.config import meaning
from experiments.tables import robustness

ALL = ".*"
NONE = "none"  # Label of no scheme and of no defence.
HOLDERS = robustness.HOLDERS


def configure(
  config: ConfigDict,
  *,
  attacks: Mapping[str, Mapping[str, Any]],
  defenses: Mapping[str, Mapping[str, Any]] | None = None,
  studies: Sequence[str] = (),
  **fields: Any,
) -> None:
  """Add `config.robustness`, which `experiments.robustness` reads.

  Args:
    config: Config with `schemes`.
    attacks: Attacks by label: fields of `attack`.
    defenses: Defences by label: fields of `config.train.defense`, and `title`.
    studies: Names of `experiments.studies`.
    **fields: Other fields of `config.robustness`.
  """
  made = ConfigDict(sort_keys=False)
  made.seeds = 1  # Of the studies, from `train.seed` on.
  made.images = 500  # Test images, the first ones.
  made.batch = 100  # Images of one compiled step.
  made.random_keys = 8  # Random keys of holder "keys".
  made.only = ALL  # Regex of the models `SCHEME/DEFENSE`.
  made.audit = ".*"  # Regex of the models whose gradients are audited.
  made.matrix = ".*"  # Regex of the models of the transfer matrix.
  made.studies = tuple(studies)
  made.attacks = ConfigDict(dict(attacks), convert_dict=False, sort_keys=False)
  made.defenses = ConfigDict(dict(defenses or {}), convert_dict=False)
  made.lock()
  made.update(fields)
  with config.unlocked():
    config.robustness = made


def attack(
  name: str,
  title: str = "",
  *,
  epsilons: Sequence[float] = (0.1,),
  norm: str = "linf",
  holder: str = "right",
  models: str = ".*",
  images: int = 0,
  **options: Any,
) -> dict[str, Any]:
  """Return an attack for `configure`.

  Args:
    name: Name in `experiments.evasion.attacks.ATTACKS`.
    title: Title in reports.
    epsilons: Largest changes, each a row.
    norm: Norm of a change.
    holder: Who computes it, a key of `HOLDERS`.
    models: Regular expression of the models `SCHEME/DEFENSE` to attack.
    images: Number of test images; 0 for those of the config.
    **options: Options of the attack.
  """
  return {
    "attack": name,
    "title": title or name,
    "epsilons": tuple(epsilons),
    "norm": norm,
    "holder": holder,
    "models": models,
    "images": images,
    "options": options,
  }


def models(config: ConfigDict, only: str = ALL) -> list[str]:
  """Return the names `SCHEME/DEFENSE` of models, one defence after the other.

  Args:
    config: Config with `schemes` and `robustness`.
    only: Regular expression of the names to return.

  Raises:
    ValueError: If `only` is not a regular expression, or matches no model.
  """
  _check_pattern("--models", only)
  found = [f"{s}/{d}" for d in defense_labels(config) for s in config.schemes]
  found = [x for x in found if re.fullmatch(config.robustness.only, x)]
  chosen = [name for name in found if re.fullmatch(only, name)]
  if found and not chosen:
    raise ValueError(
      f"--models={only!r} matches no model of the config, such as {found[0]}"
    )
  return chosen


def defense_labels(config: ConfigDict) -> list[str]:
  """Return the labels of the defences, with that of none first."""
  return [NONE, *(d for d in config.robustness.defenses if d != NONE)]


def defended(config: ConfigDict, defense: str) -> ConfigDict:
  """Return the config of the job that trains the models of a defence."""
  kept = {k: v for k, v in config.items() if k not in ("robustness", "attacks")}
  made = ConfigDict(kept).copy_and_resolve_references()
  if defense != NONE:
    fields = dict(config.robustness.defenses[defense])
    fields.pop("title", None)
    made.train.defense.update(fields)
  return made


def check(config: ConfigDict) -> None:
  """Check `config.robustness` before anything is trained.

  Raises:
    ValueError: If a field is wrong; the message says which.
  """
  if "robustness" not in config:
    raise ValueError(
      "the config has no robustness: see experiments.evasion.plan.configure, "
      "or use configs/robustness.py"
    )
  fields = config.robustness
  for field in ("images", "batch", "random_keys", "seeds"):
    if fields[field] < 1:
      raise ValueError(f"robustness.{field}={fields[field]}: at least 1")
  for field in ("only", "audit", "matrix"):
    _check_pattern(f"robustness.{field}", fields[field])
  for label, spec in fields.attacks.items():
    _check_attack(f"robustness.attacks.{label}", spec)
  names = models(config)
  for label, spec in fields.attacks.items():
    if not any(re.fullmatch(spec["models"], name) for name in names):
      raise ValueError(
        f"robustness.attacks.{label}.models={spec['models']!r} matches none of "
        f"{', '.join(names)}"
      )


def _check_attack(where: str, spec: Mapping[str, Any]) -> None:
  entry = attacks.get(where, spec["attack"])
  if spec["holder"] not in HOLDERS:
    raise ValueError(
      f"{where}.holder={spec['holder']!r}: choose from {', '.join(HOLDERS)}"
    )
  if spec["holder"] == "api" and entry.needs_gradient:
    raise ValueError(
      f"{where}: {spec['attack']} needs gradients, which queries do not give"
    )
  if spec["attack"] == "autoattack" and spec["holder"] != "right":
    raise ValueError(
      f"{where}.holder={spec['holder']!r}: autoattack keeps no input that its "
      "own model withstands, so that nothing transfers; use pgd"
    )
  if spec["norm"] not in entry.norms:
    raise ValueError(
      f"{where}.norm={spec['norm']!r}: {spec['attack']} has "
      f"{', '.join(entry.norms)}"
    )
  if not spec["epsilons"] or not all(0 < e < 1e6 for e in spec["epsilons"]):
    raise ValueError(f"{where}.epsilons={spec['epsilons']}: each more than 0")
  _check_pattern(f"{where}.models", spec["models"])


def _check_pattern(where: str, pattern: str) -> None:
  try:
    re.compile(pattern)
  except re.error as error:
    raise ValueError(f"{where}={pattern!r}: {error}") from None


def row_name(config: ConfigDict, model: str, *parts: Any) -> str:
  """Return a row's name: a hash of all that its figures depend on."""
  fields: dict[str, Any] = meaning(config)
  scheme, defense = model.split("/")
  dropped = ("schemes", "robustness", "attacks", "name")
  hashed = {k: v for k, v in fields.items() if k not in dropped}
  hashed["scheme"] = fields["schemes"][scheme]
  if defense != NONE:
    hashed["defense"] = fields["robustness"]["defenses"][defense]
  hashed["random_keys"] = config.robustness.random_keys
  text = json.dumps([hashed, *parts], sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()[:16]
