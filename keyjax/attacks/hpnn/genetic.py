"""HPNN: a genetic search over sign vectors.

A population of sign vectors, tournaments of three, uniform crossover, one
mutation for each child on average; a child replaces the worst vector if it is
better. It needs no gradient, so it also works against a device that returns
only a loss.

Needs: the file, the scheme, and labelled images. Cost: one forward pass over
at most 512 of the attacker's images for each child.

Source: the genetic attack on HPNN in Alam et al., "NN-Lock: A Lightweight
Authorization to Prevent IP Threats of Deep Learning Models", ACM JETC 2022.
"""

from collections.abc import Iterator

import numpy as np

from keyjax import tasks
from keyjax.attacks import registry
from keyjax.attacks.game import Attacker, Budget, Claim, Cost, Goal
from keyjax.attacks.hpnn import greedy, sign_model, sign_referees
from keyjax.attacks.views import View

_TOURNAMENT = 3


@registry.register(
  "hpnn_genetic",
  Goal.FUNCTION,
  ("hpnn",),
  Attacker(images=1),
  tuple({"population": p} for p in (16, 48)),
  referee=sign_referees.function_referee,
)
def genetic(
  view: View, budget: Budget, population: int = 32
) -> Iterator[Claim]:
  """Evolve signs by the task's loss on labelled images.

  Args:
    view: The file, the scheme and labelled images.
    budget: Its `steps` are the number of children.
    population: Number of sign vectors.
  """
  problem = sign_model.pose(view)
  loss = view.task.loss
  data = sign_model.examples(view, loss, budget.seed)
  few = tasks.take(data, slice(greedy.IMAGES))
  compiled = sign_model.hard_loss(problem.apply_fn, loss)

  def measure(values: np.ndarray) -> float:
    return float(compiled(problem.params, problem.units, values, *few))

  rng = np.random.default_rng(budget.seed)
  pool = rng.choice(greedy.SIGNS, (population, problem.size))
  losses = np.array([measure(v) for v in pool])
  marks = set(budget.marks())
  for step in range(1, budget.steps + 1):
    child = _child(pool, losses, rng)
    found = measure(child)
    worst = int(np.argmax(losses))
    if found < losses[worst]:
      pool[worst] = child
      losses[worst] = found
    if step in marks:
      best = int(np.argmin(losses))
      more = {"loss": float(losses[best])}
      cost = Cost(steps=step + population)
      yield Claim(sign_model.key_of(problem, pool[best]), cost, more)


def _child(
  pool: np.ndarray, losses: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
  """Return a mutated crossover of two tournament winners."""
  rows = rng.integers(len(pool), size=(2, _TOURNAMENT))
  a, b = (pool[r[losses[r].argmin()]] for r in rows)
  child = np.where(rng.random(a.size) < 0.5, a, b)
  return np.where(rng.random(a.size) < 1 / a.size, -child, child)
