"""Attacks on locks; importing this registers them all."""

from keyjax.attacks.locks import (
  adv_params,
  cryptanalytic,
  deep_lock,
  extract,
  fine_tune,
  hpnn_algebraic,
  hpnn_genetic,
  hpnn_greedy,
  hpnn_relax,
  hpnn_retrain,
  hpnn_statistics,
  pixel_front,
  pixel_jigsaw,
  pixel_search,
  random_keys,
)

__all__ = [
  "adv_params",
  "cryptanalytic",
  "deep_lock",
  "extract",
  "fine_tune",
  "hpnn_algebraic",
  "hpnn_genetic",
  "hpnn_greedy",
  "hpnn_relax",
  "hpnn_retrain",
  "hpnn_statistics",
  "pixel_front",
  "pixel_jigsaw",
  "pixel_search",
  "random_keys",
]
