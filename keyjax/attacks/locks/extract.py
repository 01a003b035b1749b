"""Model extraction: train a copy on the authorised model's answers.

A key protects a file, not a function: somebody who may ask needs no file. The
queries are transfer images of the same kind as the training data, and the copy
imitates the logits.

References:
  Orekondy, Schiele, Fritz, "Knockoff Nets: Stealing Functionality of Black-Box
  Models", CVPR 2019.
"""

from collections.abc import Iterator
from typing import Any

import jax

from keyjax.attacks import registry
from keyjax.attacks.fit import Recipe, fit
from keyjax.attacks.game import (
  Attacker,
  Budget,
  Claim,
  Cost,
  Examples,
  Goal,
  Model,
  View,
)


@registry.register(
  "extract",
  Goal.FUNCTION,
  (registry.ANY,),
  Attacker(knows_scheme=False, has_locked=False, images=1, queries=1),
  tuple({"learning_rate": r} for r in (1e-3, 3e-3)),
  condition="api",
)
def extract(view: View, budget: Budget, **recipe: Any) -> Iterator[Claim]:
  """Asks once for each image, and trains a fresh model on the logits."""
  assert view.oracle is not None
  count = min(view.oracle.left, len(view.data.label))
  images = view.data.image[:count]
  data = Examples(images, view.oracle(images))
  start = view.init(jax.random.key(budget.seed))
  marks = budget.marks()
  for at in fit(
    view.apply_fn, start, data, marks, Recipe(**recipe), budget.seed
  ):
    cost = Cost(steps=at.step, queries=view.oracle.used, flops=at.flops)
    yield Claim(Model(at.params, view.apply_fn), cost)
