r"""A new key for models that trained under the old one; a trained MNIST CNN.

python -m experiments.attack --config=configs/attack_new_key.py \
      --workdir=runs/attack_new_key

The curve of each row is the test accuracy under the new key after more and more
steps of 64 images, from the old model and from scratch. HPNN needs no training
(`keyjax.rekey`): it is there for comparison. One seed, 2 cores of a Xeon shared
with other jobs, 2026-11-26: SHF 98.63 %; after 818 steps 98.36 % from the old
model and 98.05 % from scratch. NP and FFX have not been run.
"""

from ml_collections import ConfigDict

from experiments.run.config import (
  attack,
  mnist,
  scheme,
  set_attacks,
  set_schemes,
)

_RATES = ({"learning_rate": 1e-3}, {"learning_rate": 3e-3})


def get_config() -> ConfigDict:
  """Return the config."""
  config = mnist("attack_new_key")
  config.train.epochs = 2.0
  set_schemes(
    config,
    hpnn=scheme("hpnn", "HPNN"),
    shf=scheme("shf", "SHF, M=4", block_size=4),
    np=scheme("np", "NP, M=4", block_size=4),
    ffx=scheme("ffx", "FFX, M=4", block_size=4),
  )
  all_data = {"has_key": True, "fraction": 1.0, "steps": 1600, "points": 12}
  set_attacks(
    config,
    tuned=attack(
      "train_new_key", "trained for a new key", grid=_RATES, **all_data
    ),
    fresh=attack(
      "train_new_key",
      "a new key, from scratch",
      grid=tuple({**rate, "fresh": True} for rate in _RATES),
      **all_data,
    ),
  )
  return config
