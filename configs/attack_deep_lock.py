r"""Attacks on Deep-Lock: published, int8, hardened; a trained MNIST CNN.

python -m experiments.attack --config=configs/attack_deep_lock.py \
      --workdir=runs/attack_deep_lock

2 cores of a Xeon, 8 minutes shared with other jobs, 2026-11-22. Published
schedule: the master key in 1,000 of 1,000 games, 16 ms of processor time each,
from 4 known weights at an unknown place; AES counter mode: 0 of 1,000. Both: a
sign is flipped in the file.
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
  config = mnist("attack_deep_lock")
  config.train.epochs = 3.0
  set_schemes(
    config,
    float32=scheme("deep_lock", "Deep-Lock, float32"),
    aes256=scheme("deep_lock", "Deep-Lock, 256-bit key", key_bits=256),
    int8=scheme("deep_lock", "Deep-Lock, int8", int8=True),
    counter=scheme(
      "deep_lock", "Deep-Lock, AES counter mode", schedule="counter"
    ),
  )
  set_attacks(
    config,
    known=attack(
      "known_plaintext",
      "4 known weights",
      schemes="float32|counter",
      known_weights=4,
      known_leaf="params/conv_1/kernel",
      trials=1000,
    ),
    known_whole=attack(
      "known_plaintext",
      "4 known weights of the largest leaf",
      schemes="float32|counter",
      known_weights=4,
    ),
    known_8=attack(
      "known_plaintext",
      "8 known weights",
      schemes="aes256",
      known_weights=8,
      known_leaf="params/conv_1/kernel",
      trials=100,
    ),
    known_int8=attack(
      "known_plaintext",
      "19 known int8 weights",
      schemes="int8",
      known_weights=19,
      known_leaf="params/conv_1/kernel/values",
      trials=100,
    ),
    biases=attack("constant_leaves", "zero biases, unit scales"),
    base=attack("base_model", "a public base model", has_base=True),
    pad=attack("two_time_pad", "two-time pad", has_base=True, copies=1),
    three=attack("three_words", "locked or noise?", trials=100),
    sign=attack("flip_sign", "flip a weight's sign"),
  )
  return config
