"""HPNN: flip one sign at a time, and keep the flips that lower the loss.

With the schedule known the unknowns are the key bits, otherwise one sign for
each neuron. The last locked layer comes first: nothing between it and the
logits is unknown, so its signs can be read first.

Needs: the file, the scheme, and labelled images or an oracle. Cost: one forward
pass over the attacker's images for each flip; a sweep tries every unknown.

Source: the test without an oracle that the HPNN paper's threat model leaves
open; Chakraborty et al., DAC 2020, try a single wrong key.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from keyjax import tasks
from keyjax.attacks import registry
from keyjax.attacks.game import Attacker, Budget, Claim, Cost, Goal
from keyjax.attacks.hpnn import sign_model, sign_referees
from keyjax.attacks.hpnn.sign_model import Problem
from keyjax.attacks.views import View
from keyjax.tasks.task import Loss

# Largest number of images that a flip is judged on.
IMAGES = 512
SIGNS = np.array([-1, 1], np.float32)


def flips(
  problem: Problem,
  values: np.ndarray,
  data: tuple[Any, Any],
  kind: str | Loss,
  order: np.ndarray,
) -> Iterator[tuple[int, np.ndarray, float]]:
  """Try flips until none helps, and yield after each try.

  Args:
    problem: The unknowns.
    values: float32[size] of +1 and -1, the initial signs.
    data: Images and their targets.
    kind: Loss; see `sign_model.loss`.
    order: Order of the unknowns in a sweep.

  Yields:
    The number of tries, the best signs so far, and their loss.
  """
  values = np.array(values, np.float32)
  images, want = tasks.take(data, slice(IMAGES))
  measure = sign_model.hard_loss(problem.apply_fn, kind)
  args = problem.params, problem.units
  best = float(measure(*args, values, images, want))
  tries = 1
  yield tries, values, best
  improved = True
  while improved:
    improved = False
    for at in order:
      trial = values.copy()
      trial[at] *= -1
      found = float(measure(*args, trial, images, want))
      tries += 1
      if found < best:
        values = trial
        best = found
        improved = True
      yield tries, values, best


def _attack(view: View, budget: Budget, loss: str | Loss) -> Iterator[Claim]:
  problem = sign_model.pose(view)
  data = sign_model.examples(view, loss, budget.seed)
  rng = np.random.default_rng(budget.seed)
  start = rng.choice(SIGNS, problem.size)
  queries = view.oracle.used if view.oracle else 0
  marks = set(budget.marks())
  tries = 0
  values = start
  found = 0.0
  for tries, values, found in flips(problem, start, data, loss, problem.free):
    if tries in marks:
      yield _claim(problem, values, tries, queries, found)
    if tries >= budget.steps:
      return
  yield _claim(problem, values, tries, queries, found)


def _claim(
  problem: Problem, values: np.ndarray, tries: int, queries: int, found: float
) -> Claim:
  cost = Cost(steps=tries, queries=queries)
  return Claim(sign_model.key_of(problem, values), cost, {"loss": found})


@registry.register(
  "hpnn_greedy",
  Goal.FUNCTION,
  ("hpnn",),
  Attacker(images=1),
  referee=sign_referees.function_referee,
)
def greedy(view: View, budget: Budget) -> Iterator[Claim]:
  """Flip signs by the task's loss on labelled images."""
  return _attack(view, budget, view.task.loss)


@registry.register(
  "hpnn_greedy_oracle",
  Goal.KEY,
  ("hpnn",),
  Attacker(queries=1),
  referee=sign_referees.key_referee,
  classes_only=True,
)
def greedy_oracle(view: View, budget: Budget) -> Iterator[Claim]:
  """Flip signs by the distance to the authorised logits."""
  return _attack(view, budget, "mse")
