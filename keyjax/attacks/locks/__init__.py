"""Attacks on locks; importing this registers them all."""

from keyjax.attacks.locks import (
  adv_params,
  deep_lock,
  extract,
  fine_tune,
  random_keys,
)

__all__ = ["adv_params", "deep_lock", "extract", "fine_tune", "random_keys"]
