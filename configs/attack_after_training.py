r"""HPNN's signs, written into a trained model, beside the model's public base.

    python -m experiments.attack --config=configs/attack_after_training.py \
      --workdir=runs/attack_after_training

2 cores of a busy Xeon, 5 minutes a seed, 2026-11-28, seeds 0 to 2: right key
RIGHT, none NONE. The base gives 256 of 256 bits in each, with no data
and no query, in under a second; the weights alone STAT; algebra
with 32 queries 256 of 256.
"""

from ml_collections import ConfigDict

from experiments.run.config import (
  attack,
  mnist,
  scheme,
  set_attacks,
  set_schemes,
)


def get_config() -> ConfigDict:
  """Return the config."""
  config = mnist("attack_after_training")
  config.model_args.units = 256
  set_schemes(
    config,
    hpnn=scheme(
      "hpnn", "HPNN, 256 key bits, after training", after_training=True
    ),
  )
  set_attacks(
    config,
    base=attack("hpnn_base", "a public base", has_base=True),
    statistics=attack("hpnn_statistics", "the weights alone"),
    algebra_32=attack(
      "hpnn_algebraic",
      "algebra, 32 queries",
      steps=200,
      images=32,
      queries=32,
      points=3,
    ),
  )
  return config
