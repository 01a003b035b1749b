"""Fooling inputs: noise and patterns that a model is certain about.

    gradients       `gradient_ascent`
    evolution       `map_elites` with an encoding: `direct` or `cppn`

Pure functions over `logits_fn: float[n, ...] -> float[n, classes]`: they start
from no input at all, and return one for each class. Each works eagerly, under
`jax.jit`, and under `jax.vmap` over rngs and keys. Names are imported when they
are first used.
"""

from typing import TYPE_CHECKING

from keyjax import lazy

if TYPE_CHECKING:
  from keyjax.attacks.fooling.ascent import gradient_ascent
  from keyjax.attacks.fooling.champions import Fooling
  from keyjax.attacks.fooling.elites import Encoding, map_elites
  from keyjax.attacks.fooling.patterns import Pattern, cppn
  from keyjax.attacks.fooling.pixels import direct, polynomial_mutation

__all__ = [
  "Encoding",
  "Fooling",
  "Pattern",
  "cppn",
  "direct",
  "gradient_ascent",
  "map_elites",
  "polynomial_mutation",
]

__getattr__, __dir__ = lazy.attach(
  __name__,
  {
    "ascent": ("gradient_ascent",),
    "champions": ("Fooling",),
    "elites": ("Encoding", "map_elites"),
    "patterns": ("Pattern", "cppn"),
    "pixels": ("direct", "polynomial_mutation"),
  },
)
