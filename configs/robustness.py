r"""Schemes and defences under adversarial inputs, by every kind of attacker.

Digits, 8 x 8:

    python -m experiments.robustness --config=configs/robustness.py:digits \
      --workdir=runs/digits_robustness

MNIST:

    python -m experiments.robustness --config=configs/robustness.py:mnist \
      --workdir=runs/mnist_robustness

Models: no lock, Deep-Lock, AdvParams, HPNN, SHF, NP and FFX, each without a
defence and with PGD adversarial training; distillation, noise and rounding
alone. Attacks: with the key, with half of it, with a wrong one, with the stolen
file, over random keys, and with queries alone.
"""

from typing import Any

from ml_collections import ConfigDict

from experiments.evasion.plan import attack, configure
from experiments.run.config import (
  ConfigArgumentError,
  base,
  mnist,
  one_of_each,
  set_schemes,
)

_EPSILONS = {"digits": (0.05, 0.1, 0.2), "mnist": (0.1, 0.2, 0.3)}
_KEYED = "(hpnn|shf|np|ffx)/none"
_LOCKED = "(?!none).*/none"


def get_config(dataset: str = "digits") -> ConfigDict:
  """Return the config of a data set: digits or mnist."""
  if dataset not in _EPSILONS:
    known = ", ".join(_EPSILONS)
    raise ConfigArgumentError(
      f"unknown data set {dataset!r} for configs/robustness.py: {known}"
    )
  config = _recipe(dataset)
  set_schemes(config, **one_of_each())
  epsilons = _EPSILONS[dataset]
  trained = epsilons[1]
  configure(
    config,
    images=300,
    batch=100,
    defenses={
      "pgd": {"name": "pgd", "epsilon": trained, "title": "PGD training"},
      "distilled": {"name": "distilled", "title": "distillation"},
      "noise": {"name": "noise", "title": "noise on inputs"},
      "discrete": {"name": "discrete", "title": "two levels"},
    },
    attacks=_attacks(epsilons),
    only=r".*/(none|pgd)|none/.*",
    audit=r".*/none|none/.*",
    matrix=r".*/none",
  )
  return config


def _recipe(dataset: str) -> ConfigDict:
  if dataset == "mnist":
    config = mnist("mnist_robustness")
    config.train.epochs = 3.0
    return config
  config = base()
  config.name = "digits_robustness"
  config.train.epochs = 40.0
  return config


def _attacks(epsilons: tuple[float, ...]) -> dict[str, dict[str, Any]]:
  """Return the attacks, by label."""
  middle = (epsilons[1],)
  found = {
    "noise": attack("noise", "random signs", epsilons=epsilons),
    "fgsm": attack("fgsm", "FGSM", epsilons=epsilons),
    "pgd": attack("pgd", "PGD, 40 steps, 2 starts", epsilons=epsilons),
    "pgd_long": attack(
      "pgd", "PGD, 200 steps, 2 starts", epsilons=middle, steps=200
    ),
    "dlr": attack("apgd", "APGD-DLR", epsilons=middle, loss="dlr"),
    "square": attack(
      "square", "Square, 1,000 queries", epsilons=middle, holder="api"
    ),
    "hop_skip_jump": attack(
      "hop_skip_jump",
      "HopSkipJump, 2,500 labels",
      epsilons=(0.5, 1.0, 2.0),
      norm="l2",
      holder="api",
      images=100,
    ),
    "carlini_wagner": attack(
      "carlini_wagner",
      "Carlini-Wagner",
      epsilons=(0.5, 1.0, 2.0),
      norm="l2",
      images=100,
    ),
    "autoattack": attack(
      "autoattack",
      "AutoAttack",
      epsilons=middle,
      models=r"none/.*|(hpnn|shf|np|ffx)/(none|pgd)",
      images=200,
      n_queries=1000,
    ),
  }
  holders = {"leaked": _KEYED, "wrong": _LOCKED, "no_key": _LOCKED}
  for holder, models in {**holders, "keys": _KEYED}.items():
    found[f"pgd_{holder}"] = attack(
      "pgd", "PGD, 40 steps", epsilons=middle, holder=holder, models=models
    )
  return found
