r"""Every registered scheme against every attack on its file, on the digits.

    python -m experiments.attack --config=configs/leaderboard.py \
      --workdir=runs/leaderboard

One network, one recipe and one attacker for all, so that rows compare, and a
new scheme is measured by its registration alone. The attacker holds what an
attack needs: 64 labelled images, 64 queries, 100 transformed images, 4 known
weights, the public base model, or files of 3 other licensees; and 1,000 queries
to copy a served model. `python -m experiments.leaderboard` runs it with three
seeds for docs/leaderboard.md. A scheme takes from half a minute to two minutes
of processor time a seed (AMD EPYC, two cores).
"""

from typing import Any

from ml_collections import ConfigDict

from experiments.run.config import (
  adv_params_in_range,
  attack,
  base,
  scheme,
  set_attacks,
  set_schemes,
)
from keyjax.attacks import registry as attacks
from keyjax.attacks.game import Attack, Goal
from keyjax.schemes import registry as schemes

_HELD = {
  "images": 64,
  "queries": 64,
  "ciphertexts": 100,
  "known_weights": 4,
  "has_base": True,
  "copies": 1,
  "licensees": 3,
}
_STEPS = 300
_ON_THE_FILE = (Goal.KEY, Goal.WEIGHTS, Goal.FUNCTION)
# Of schemes with forms, or whose default is not for 8 x 8 pixels.
_FORMS = {
  "identity": {"identity": scheme("identity", "no lock")},
  "deep_lock": {
    "deep_lock": scheme("deep_lock", "Deep-Lock, as published"),
    "deep_lock_counter": scheme(
      "deep_lock", "Deep-Lock, AES counter mode", schedule="counter"
    ),
  },
  "adv_params": {
    "adv_params": scheme(
      "adv_params", "AdvParams", theta=0.5, loss_threshold=1000.0
    ),
    "adv_params_in_range": adv_params_in_range(),
  },
  "hpnn": {
    "hpnn": scheme("hpnn", "HPNN"),
    "hpnn_after_training": scheme(
      "hpnn", "HPNN, after training", after_training=True
    ),
  },
  "shf": {"shf": scheme("shf", "SHF, M=4", block_size=4)},
  "np": {"np": scheme("np", "NP, M=4", block_size=4)},
  "ffx": {"ffx": scheme("ffx", "FFX, M=4", block_size=4)},
}


def get_config() -> ConfigDict:
  """Return the config."""
  config = base()
  config.name = "leaderboard"
  config.train.batch_size = 64
  config.train.epochs = 20.0
  config.evaluate.batch_size = 360
  for name in schemes.names():
    titled = {name: scheme(name, name.replace("_", " "))}
    set_schemes(config, **_FORMS.get(name, titled))
  set_attacks(
    config,
    search_cost=attack("search_cost", "trying every key"),
    scratch=_standard(attacks.get("scratch"), schemes="identity"),
    extract=_standard(attacks.get("extract"), images=1000, queries=1000),
    **{x.name: _standard(x) for x in attacks.every() if _counts(x)},
  )
  return config


def _counts(found: Attack) -> bool:
  """Return whether an attack is on the file, and no control."""
  on_file = found.goal in _ON_THE_FILE and found.condition == "wrong"
  return on_file and found.name != "scratch"


def _standard(found: Attack, **given: Any) -> ConfigDict:
  """Return an attack with the standard attacker and budget."""
  held = {k: v for k, v in _HELD.items() if getattr(found.needs, k)}
  if "queries" in held:
    held["images"] = held["queries"]  # What is asked.
  title = found.name.replace("_", " ")
  return attack(found.name, title, steps=_STEPS, points=1, **held | given)
