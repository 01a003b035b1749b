"""Adversarial inputs: small changes that a model misclassifies.

Pure functions over `logits_fn: float[n, ...] -> float[n, classes]`. Each works
eagerly, under `jax.jit`, under `jax.vmap` over rngs and keys, and with inputs
that are sharded over the batch. Names are imported when they are first used.
"""

from typing import TYPE_CHECKING

from keyjax import lazy

if TYPE_CHECKING:
  from keyjax.attacks.evasion import losses, problem
  from keyjax.attacks.evasion.box_lbfgs import lbfgs
  from keyjax.attacks.evasion.decision import hop_skip_jump
  from keyjax.attacks.evasion.deep_fool import deepfool
  from keyjax.attacks.evasion.problem import Evasion
  from keyjax.attacks.evasion.saliency_pairs import jsma
  from keyjax.attacks.evasion.tanh_space import carlini_wagner
  from keyjax.attacks.evasion.universal import (
    Universal,
    fooling_rate,
    universal_deepfool,
    universal_sgd,
  )
  from keyjax.attacks.evasion.wrappers import bpda, expectation

__all__ = [
  "Evasion",
  "Universal",
  "bpda",
  "carlini_wagner",
  "deepfool",
  "expectation",
  "fooling_rate",
  "hop_skip_jump",
  "jsma",
  "lbfgs",
  "losses",
  "problem",
  "universal_deepfool",
  "universal_sgd",
]

__getattr__, __dir__ = lazy.attach(
  __name__,
  {
    "box_lbfgs": ("lbfgs",),
    "decision": ("hop_skip_jump",),
    "deep_fool": ("deepfool",),
    "problem": ("Evasion",),
    "saliency_pairs": ("jsma",),
    "tanh_space": ("carlini_wagner",),
    "universal": (
      "Universal",
      "fooling_rate",
      "universal_deepfool",
      "universal_sgd",
    ),
    "wrappers": ("bpda", "expectation"),
  },
)
