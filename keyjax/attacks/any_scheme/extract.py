"""Model extraction: train a copy on the authorised model's answers.

A key protects a file, not a function: an attacker who may query the model needs
no file. The queries are images of the same kind as the training data, and the
copy imitates the answers: their logits, or all outputs of another task.

A licensee (`extract_keyed`) needs no queries: they run the model themselves,
and what they distil works without the key.

References:
  Orekondy, Schiele, Fritz, "Knockoff Nets: Stealing Functionality of Black-Box
  Models", CVPR 2019.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from keyjax import tasks
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
  keyed,
)
from keyjax.attacks.views import View

_BATCH = 500  # Images in a forward pass of the licensee.
_GRID = tuple({"learning_rate": r} for r in (1e-3, 3e-3))


@registry.register(
  "extract",
  Goal.FUNCTION,
  (registry.ANY,),
  Attacker(knows_scheme=False, has_locked=False, images=1, queries=1),
  _GRID,
  condition="api",
)
def extract(view: View, budget: Budget, **recipe: Any) -> Iterator[Claim]:
  """Query once for each image, and train a fresh model on the answers."""
  assert view.oracle is not None
  images = tasks.take(view.data.image, slice(view.oracle.left))
  data = Examples(images, view.oracle(images))
  yield from _imitate(view, data, budget, recipe, view.oracle.used)


@registry.register(
  "extract_keyed",
  Goal.FUNCTION,
  (registry.ANY,),
  Attacker(has_key=True, images=1),
  _GRID,
  condition="right",
)
def extract_keyed(view: View, budget: Budget, **recipe: Any) -> Iterator[Claim]:
  """Train a fresh, unlocked model on the logits of the licensed one."""
  assert view.scheme is not None
  forward = jax.jit(keyed(view.scheme, view.apply_fn))
  images = view.data.image
  keyed_params = (view.key, view.opened())
  answers = [
    jax.device_get(
      forward(keyed_params, tasks.take(images, slice(at, at + _BATCH)))
    )
    for at in range(0, tasks.num_examples(images), _BATCH)
  ]
  joined = jax.tree.map(lambda *x: np.concatenate(x), *answers)
  data = Examples(images, joined)
  yield from _imitate(view, data, budget, recipe, 0)


def _imitate(
  view: View,
  data: Examples,
  budget: Budget,
  recipe: Mapping[str, Any],
  queries: int,
) -> Iterator[Claim]:
  start = view.init(jax.random.key(budget.seed))
  marks = budget.marks()
  chosen = Recipe(**recipe)
  for at in fit(
    view.apply_fn,
    start,
    data,
    marks,
    chosen,
    budget.seed,
    loss=view.task.imitation,
  ):
    cost = Cost(steps=at.step, queries=queries, flops=at.flops)
    yield Claim(Model(at.params, view.apply_fn), cost)
