r"""Attacks on AdvParams and on keyed noise; a trained MNIST CNN.

python -m experiments.attack --config=configs/attack_adv_params.py \
      --workdir=runs/attack_adv_params

2 cores of a Xeon shared with other jobs, 2026-11-22. Right key 99.07 %; the
line search with 200 images: 98.80 % (11 weights changed, without bounds) and
98.60 % (48 weights, inside the layer's range); fine-tuning with 500: 88.17 and
97.84.
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
  config = mnist("attack_adv_params")
  config.train.epochs = 3.0
  set_schemes(
    config,
    free=scheme("adv_params", "AdvParams", theta=0.5, loss_threshold=1000.0),
    bounded=scheme(
      "adv_params",
      "AdvParams inside the layer's range",
      theta=0.3,
      beta=0.1,
      loss_threshold=1000.0,
    ),
    noise=scheme("keyed_noise", "keyed noise"),
  )
  searches = {
    f"search_{n}": attack(
      "line_search", f"line search, {n} images", images=n, steps=60
    )
    for n in (50, 200, 500)
  }
  set_attacks(
    config,
    clip=attack("clip_outliers", "clip outliers"),
    twice=attack("drop_duplicates", "drop duplicates"),
    prune=attack("prune_largest", "prune the largest"),
    base=attack("nearest_base", "a public base model", has_base=True),
    sparse=attack("sparse_tune", "sparse tuning", images=500, steps=200),
    tune=attack("fine_tune", "fine-tuning", images=500, steps=200),
    **searches,
  )
  return config
