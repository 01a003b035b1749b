"""Adversarial inputs: small changes that a model misclassifies.

Pure functions over `logits_fn: float[n, ...] -> float[n, classes]`. Each works
eagerly, under `jax.jit`, under `jax.vmap` over rngs and keys, and with inputs
that are sharded over the batch. Names are imported when they are first used.
"""

from typing import TYPE_CHECKING

from keyjax import lazy

if TYPE_CHECKING:
  from keyjax.attacks.evasion import losses, problem
  from keyjax.attacks.evasion.problem import Evasion

__all__ = ["Evasion", "losses", "problem"]

__getattr__, __dir__ = lazy.attach(__name__, {"problem": ("Evasion",)})
