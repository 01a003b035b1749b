"""Adversarial inputs: small changes that a model misclassifies.

Pure functions over `logits_fn: float[n, ...] -> float[n, classes]`. Each works
eagerly, under `jax.jit`, under `jax.vmap` over rngs and keys, and with inputs
that are sharded over the batch. Names are imported when they are first used.
"""

from typing import TYPE_CHECKING

from keyjax import lazy

if TYPE_CHECKING:
  from keyjax.attacks.evasion import losses, problem
  from keyjax.attacks.evasion.auto_attack import Ensemble, autoattack
  from keyjax.attacks.evasion.auto_pgd import apgd, apgd_targeted
  from keyjax.attacks.evasion.batches import in_batches
  from keyjax.attacks.evasion.box_lbfgs import lbfgs
  from keyjax.attacks.evasion.decision import hop_skip_jump
  from keyjax.attacks.evasion.deep_fool import deepfool
  from keyjax.attacks.evasion.fast_boundary import fab
  from keyjax.attacks.evasion.gradient import bim, fgsm, pgd
  from keyjax.attacks.evasion.judging import WorstCase, judged, worst_case
  from keyjax.attacks.evasion.keyed import (
    black_box,
    expected_logits,
    keyed_model,
    stacked,
    stolen_model,
    transferable,
  )
  from keyjax.attacks.evasion.problem import Evasion
  from keyjax.attacks.evasion.saliency_pairs import jsma
  from keyjax.attacks.evasion.square_attack import square
  from keyjax.attacks.evasion.tanh_space import carlini_wagner
  from keyjax.attacks.evasion.universal import (
    Universal,
    fooling_rate,
    universal_deepfool,
    universal_sgd,
  )
  from keyjax.attacks.evasion.wrappers import bpda, expectation

__all__ = [
  "Ensemble",
  "Evasion",
  "Universal",
  "WorstCase",
  "apgd",
  "apgd_targeted",
  "autoattack",
  "bim",
  "black_box",
  "bpda",
  "carlini_wagner",
  "deepfool",
  "expectation",
  "expected_logits",
  "fab",
  "fgsm",
  "fooling_rate",
  "hop_skip_jump",
  "in_batches",
  "jsma",
  "judged",
  "keyed_model",
  "lbfgs",
  "losses",
  "pgd",
  "problem",
  "square",
  "stacked",
  "stolen_model",
  "transferable",
  "universal_deepfool",
  "universal_sgd",
  "worst_case",
]

__getattr__, __dir__ = lazy.attach(
  __name__,
  {
    "auto_attack": ("Ensemble", "autoattack"),
    "auto_pgd": ("apgd", "apgd_targeted"),
    "batches": ("in_batches",),
    "box_lbfgs": ("lbfgs",),
    "decision": ("hop_skip_jump",),
    "deep_fool": ("deepfool",),
    "fast_boundary": ("fab",),
    "gradient": ("bim", "fgsm", "pgd"),
    "judging": ("WorstCase", "judged", "worst_case"),
    "keyed": (
      "black_box",
      "expected_logits",
      "keyed_model",
      "stacked",
      "stolen_model",
      "transferable",
    ),
    "problem": ("Evasion",),
    "saliency_pairs": ("jsma",),
    "square_attack": ("square",),
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
