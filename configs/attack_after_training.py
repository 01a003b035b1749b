r"""HPNN's signs, written into a trained model, beside the model's public base.

    python -m experiments.attack --config=configs/attack_after_training.py \
      --workdir=runs/attack_after_training

2 cores of a busy EPYC, 5 minutes a seed, 2026-11-28, seeds 0 to 2: right key
99.1 to 99.2 %. The base (the same model, its head trained 50 steps longer)
gives all 256 bits of each in 0.4 to 0.6 s, with no data and no query; the
weights alone 190 to 203 bits, and 49.8 to 80.3 %; algebra with 32 queries all.
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
