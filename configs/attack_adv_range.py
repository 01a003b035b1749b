r"""AdvParams with unbounded steps and in range, attacked alike; an MNIST CNN.

    python -m experiments.attack --config=configs/attack_adv_range.py \
      --workdir=runs/attack_adv_range

Repeat with `--config.train.seed=1` and 2, each in its own folder: 4 minutes
each on 2 cores of a Xeon shared with other jobs, 2026-11-27. The line search
with 200 images: 98.6 % unbounded, 98.5 in range; clipping outliers: 98.9, 9.0.
"""

from ml_collections import ConfigDict

from experiments.run.config import (
  adv_params_in_range,
  attack,
  mnist,
  scheme,
  set_attacks,
  set_schemes,
)


def get_config() -> ConfigDict:
  """Return the config."""
  config = mnist("attack_adv_range")
  set_schemes(
    config,
    unbounded=scheme(
      "adv_params", "AdvParams, unbounded", theta=0.5, loss_threshold=1000.0
    ),
    in_range=adv_params_in_range(),
  )
  set_attacks(
    config,
    clip=attack("clip_outliers", "clip outliers"),
    twice=attack("drop_duplicates", "drop duplicates"),
    prune=attack("prune_largest", "prune the largest"),
    base=attack("nearest_base", "a public base model", has_base=True),
    tune=attack(
      "fine_tune",
      "fine-tuning, 500 images",
      images=500,
      steps=200,
      points=3,
      grid=({"learning_rate": 1e-3}, {"learning_rate": 3e-3}),
    ),
    search=attack(
      "line_search",
      "line search, 200 images",
      images=200,
      steps=60,
      points=3,
      grid=({"held_out": 0.0},),
    ),
  )
  return config
