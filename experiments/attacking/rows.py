"""What every row of an attack says about its pair, attacker and budget."""

from typing import Any

from ml_collections import ConfigDict

from experiments.run import results
from keyjax.attacks.game import Attacker, Budget


def attacker_of(spec: ConfigDict, num_train: int) -> Attacker:
  """Return the attacker of an attack in a config.

  Args:
    spec: Attack of `config.attacks`.
    num_train: Number of training images, of which it may hold a share.
  """
  fields = dict(spec.attacker)
  if spec.fraction:
    fields["images"] = max(1, round(spec.fraction * num_train))
  return Attacker(**fields)


def seeds_of(spec: ConfigDict) -> int:
  """Return the number of attackers of which a row is the mean."""
  return int(spec.get("seeds", 1))


def budget_of(config: ConfigDict, label: str) -> Budget:
  """Return the budget of an attack; the seed of a run is its attacker's too."""
  spec = config.attacks[label]
  return Budget(steps=spec.steps, points=spec.points, seed=config.train.seed)


def fields(
  config: ConfigDict, scheme: str, label: str, attacker: Attacker
) -> dict[str, Any]:
  """Return what a row says about its pair, before anything is played."""
  spec = config.attacks[label]
  return results.names(scheme, config.schemes[scheme]) | {
    "attack": label,
    "attack_title": spec.title,
    "game": spec.attack,
    "attacker": vars(attacker),
    "fraction": spec.fraction,
    "budget": vars(budget_of(config, label)) | {"trials": spec.trials},
  }


def condition(config: ConfigDict, scheme: str, wanted: str) -> str:
  """Return the condition: a file that is not locked is plain to anybody."""
  unlocked = config.schemes[scheme].scheme == "identity"
  return "plain" if unlocked and wanted != "api" else wanted
