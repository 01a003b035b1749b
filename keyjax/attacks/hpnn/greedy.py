"""HPNN: flip one sign at a time, and keep what lowers the loss.

With the schedule known the unknowns are the key bits, otherwise one sign for
each neuron. The last locked layer comes first: between it and the logits lies
nothing unknown, so its signs give a clear reading soonest.

Needs: the file, the scheme, and labelled images or an oracle. Cost: one forward
pass over the attacker's images for each flip; a sweep tries every unknown.

Source: the oracle-less test that the HPNN paper's threat model leaves open;
Chakraborty et al., DAC 2020, try one wrong key alone.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from keyjax.attacks import registry
from keyjax.attacks.game import Attacker, Budget, Claim, Cost, Goal
from keyjax.attacks.hpnn import score as hpnn_score
from keyjax.attacks.hpnn import signs as hpnn_signs
from keyjax.attacks.hpnn.signs import Problem
from keyjax.attacks.views import View

# A flip is judged on no more images than this.
IMAGES = 512
SIGNS = np.array([-1, 1], np.float32)


def flips(
  this: Problem,
  values: np.ndarray,
  data: tuple[Any, Any],
  kind: str,
  order: np.ndarray,
) -> Iterator[tuple[int, np.ndarray, float]]:
  """Tries flips until none helps, and yields after each try.

  Args:
    this: the unknowns.
    values: float32[size] of +1 and -1, where to start.
    data: images, and what is wanted of them.
    kind: see `hpnn_signs.loss`.
    order: of the unknowns in a sweep.

  Yields:
    How many tries there were, the best signs so far, and their loss.
  """
  values = np.array(values, np.float32)
  images, want = (x[:IMAGES] for x in data)
  measure = hpnn_signs.hard_loss(this.apply_fn, kind)
  args = this.params, this.units
  best, tries = float(measure(*args, values, images, want)), 1
  yield tries, values, best
  improved = True
  while improved:
    improved = False
    for at in order:
      trial = values.copy()
      trial[at] *= -1
      found, tries = float(measure(*args, trial, images, want)), tries + 1
      if found < best:
        values, best, improved = trial, found, True
      yield tries, values, best


def _attack(view: View, budget: Budget, loss: str) -> Iterator[Claim]:
  this = hpnn_signs.problem(view)
  data = hpnn_signs.examples(view, loss, budget.seed)
  rng = np.random.default_rng(budget.seed)
  start = rng.choice(SIGNS, this.size)
  queries = view.oracle.used if view.oracle else 0
  marks = set(budget.marks())
  tries, values, found = 0, start, 0.0
  for tries, values, found in flips(this, start, data, loss, this.free):
    if tries in marks:
      yield _claim(this, values, tries, queries, found)
    if tries >= budget.steps:
      return
  yield _claim(this, values, tries, queries, found)


def _claim(
  this: Problem, values: np.ndarray, tries: int, queries: int, found: float
) -> Claim:
  cost = Cost(steps=tries, queries=queries)
  return Claim(hpnn_signs.key_of(this, values), cost, {"loss": found})


@registry.register(
  "hpnn_greedy",
  Goal.FUNCTION,
  ("hpnn",),
  Attacker(images=1),
  referee=hpnn_score.function_referee,
)
def greedy(view: View, budget: Budget) -> Iterator[Claim]:
  """Flips signs by the cross-entropy on labelled images."""
  return _attack(view, budget, "ce")


@registry.register(
  "hpnn_greedy_oracle",
  Goal.KEY,
  ("hpnn",),
  Attacker(queries=1),
  referee=hpnn_score.key_referee,
)
def greedy_oracle(view: View, budget: Budget) -> Iterator[Claim]:
  """Flips signs by the distance to the authorised logits."""
  return _attack(view, budget, "mse")
