"""What is compared: attacks, their settings, and numbers of images.

Imported by both sides, so that settings are the same ones.
"""

from typing import Any, NamedTuple

BATCH = 250
# Square whose squares reach the last row and column on both sides: those of the
# reference do not.
EVERY_PLACE = "square_all"
AUTOATTACK = ("apgd_ce", "apgd_t", "fab_t", "square", EVERY_PLACE, "ensemble")
PGD_STEPS = 40
PGD_STRIDE = 2.5 / PGD_STEPS  # Size of a step, of epsilon.
DEEPFOOL: dict[str, Any] = {"steps": 50, "overshoot": 0.02, "candidates": 10}
CARLINI_WAGNER: dict[str, Any] = {
  "steps": 100,
  "binary_search_steps": 5,
  "learning_rate": 0.05,
  "initial_constant": 0.1,
}


class Case(NamedTuple):
  """One attack on one network.

  Attributes:
    network: Name of `networks.NETWORKS`.
    attack: Name of `AUTOATTACK`, or "pgd", "deepfool" or "carlini_wagner".
    norm: "linf", "l2" or "l1".
    epsilon: Largest size of a change; 0 where an attack minimises it.
    n: Number of images.
    seeds: Number of random seeds.
  """

  network: str
  attack: str
  norm: str
  epsilon: float
  n: int
  seeds: int

  @property
  def minimises(self) -> bool:
    """Whether the attack looks for the least change, not in a ball."""
    return not self.epsilon

  @property
  def peer(self) -> str:
    """What the attack is compared with."""
    return "AutoAttack" if self.attack in AUTOATTACK else "Foolbox"


def _cases(network: str, epsilon: float, n: int, few: int) -> list[Case]:
  """Return the cases that every network has.

  Args:
    network: Name of the network.
    epsilon: Largest size of a change, "linf".
    n: Number of images of the fast attacks.
    few: Number of images of the slow ones.
  """
  ball: dict[str, Any] = {"norm": "linf", "epsilon": epsilon}
  return [
    Case(network, "apgd_ce", n=n, seeds=3, **ball),
    Case(network, "pgd", n=n, seeds=3, **ball),
    Case(network, "apgd_t", n=few, seeds=3, **ball),
    Case(network, "fab_t", n=few, seeds=1, **ball),  # Not random.
    Case(network, "square", n=few, seeds=3, **ball),
    Case(network, EVERY_PLACE, n=few, seeds=3, **ball),
    Case(network, "deepfool", "l2", 0.0, n=n, seeds=1),  # Nor is this,
    Case(network, "carlini_wagner", "l2", 0.0, n=few, seeds=1),  # nor this.
    Case(network, "ensemble", n=few, seeds=3, **ball),
  ]


def _in_other_norms() -> list[Case]:
  """Return l2 and l1 cases, on one network."""
  return [
    Case("mnist", attack, norm, epsilon, n, seeds)
    for norm, epsilon in (("l2", 1.5), ("l1", 8.0))
    for attack, n, seeds in (
      ("apgd_ce", 1000, 3),
      ("apgd_t", 200, 3),
      ("fab_t", 200, 1),
      ("square", 200, 3),
    )
  ]


CASES = (
  *_cases("mnist robust", 0.3, n=1000, few=200),
  *_in_other_norms(),
  *_cases("mnist", 0.1, n=1000, few=200),
  *_cases("gtsrb robust", 8 / 255, n=500, few=200),
  *_cases("gtsrb", 2 / 255, n=500, few=200),
)
