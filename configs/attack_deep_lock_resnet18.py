r"""Known plaintext against Deep-Lock on ResNet-18 (11 million weights).

    python -m experiments.attack --config=configs/attack_deep_lock_resnet18.py \
      --workdir=runs/attack_deep_lock_resnet18

The model is at its first step, where the warm-up's rate is 0: batch-norm
scales and biases are 1 and 0, as after any training that freezes them.
2 cores of a Xeon shared with other jobs, 2026-11-22: the master key in 10 of 10
games, median 0.81 s of processor time from 4 known weights among 2.4 million,
0.25 s from zero biases and unit scales alone.
"""

from ml_collections import ConfigDict

from experiments.run.config import (
  attack,
  cifar10,
  scheme,
  set_attacks,
  set_schemes,
)


def get_config() -> ConfigDict:
  """Return the config."""
  config = cifar10("attack_deep_lock_resnet18")
  config.train.batch_size = 8
  config.train.epochs = 1e-6  # One step.
  config.train.schedule = "cosine"
  set_schemes(
    config,
    chain=scheme("deep_lock", "Deep-Lock, float32"),
    counter=scheme(
      "deep_lock", "Deep-Lock, AES counter mode", schedule="counter"
    ),
  )
  set_attacks(
    config,
    known=attack(
      "known_plaintext",
      "4 known weights of the largest leaf",
      known_weights=4,
      trials=10,
    ),
    zeros=attack("constant_leaves", "zero biases, unit scales", trials=10),
  )
  return config
