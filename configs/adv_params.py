r"""AdvParams on digits, MNIST, GTSRB or CIFAR-10: the word after the colon.

At most 48 parameters change: by unbounded steps, as published, and by a search
that stays inside the range of each layer.

    python -m experiments.main --config=configs/adv_params.py:mnist \
      --workdir=runs/mnist_adv_params

`python -m experiments.attack` with the same arguments attacks both.
"""

from typing import Any

from ml_collections import ConfigDict

from experiments.run.config import (
  attack,
  recipe,
  scheme,
  set_attacks,
  set_schemes,
)

_LIMITS: dict[str, dict[str, Any]] = {
  "mnist": {"theta": 0.5, "loss_threshold": 1000.0},
  "gtsrb": {
    "theta": 1.0,
    "max_steps": 48,
    "max_changes": 48,
    "loss_threshold": 1e9,
  },
  "cifar10": {"theta": 0.5, "loss_threshold": 1000.0},
}


def get_config(dataset: str = "") -> ConfigDict:
  """Return the config for a data set."""
  config = recipe(dataset, "adv_params")
  set_schemes(
    config,
    adv_params=scheme(
      "adv_params", "AdvParams, unbounded", **_LIMITS[dataset]
    ),
    in_range=scheme(
      "adv_params",
      "AdvParams, in range",
      search="in_range",
      max_steps=48,
      loss_threshold=15.0,
    ),
  )
  set_attacks(
    config,
    clip=attack("clip_outliers", "clip outliers"),
    twice=attack("drop_duplicates", "drop duplicates"),
    prune=attack("prune_largest", "prune the largest"),
    search=attack(
      "line_search",
      "line search, 200 images",
      images=200,
      steps=60,
      points=3,
      grid=({"held_out": 0.0},),
    ),
    tune=attack(
      "fine_tune",
      "fine-tuning, 500 images",
      images=500,
      steps=200,
      points=3,
    ),
  )
  return config
