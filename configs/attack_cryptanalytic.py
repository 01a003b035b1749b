r"""A key protects a file, not a function: a network rebuilt from its logits.

python -m experiments.attack --config=configs/attack_cryptanalytic.py \
      --workdir=runs/attack_cryptanalytic

2 cores of a Xeon, 2 minutes shared with other jobs, 2026-11-22; the figures are
in docs/attacks/cryptanalytic.md.
"""

from ml_collections import ConfigDict

from experiments.run.config import (
  attack,
  base,
  scheme,
  set_attacks,
  set_schemes,
)


def get_config() -> ConfigDict:
  """Return the config."""
  config = base()
  config.name = "attack_cryptanalytic"
  config.dataset = "digits"
  config.model = "mlp"
  config.model_args.hidden = (16,)
  config.train.epochs = 30.0
  config.train.learning_rate = 1e-2
  set_schemes(
    config,
    none=scheme("identity", "no lock"),
    counter=scheme(
      "deep_lock", "Deep-Lock, AES counter mode", schedule="counter"
    ),
    hpnn=scheme("hpnn", "HPNN, 256 key bits"),
  )
  attacks = {}
  for queries in (1000, 10_000):
    attacks[f"blind_{queries}"] = attack(
      "cryptanalytic", f"hyperplanes, {queries:,} queries", queries=queries
    )
  set_attacks(
    config,
    **attacks,
    images=attack(
      "cryptanalytic",
      "hyperplanes, 10,000 queries, 100 images",
      images=100,
      queries=10_000,
    ),
    extract=attack(
      "extract",
      "a trained copy, 1,437 queries",
      images=1437,
      queries=1437,
      steps=2000,
      points=3,
    ),
  )
  return config
