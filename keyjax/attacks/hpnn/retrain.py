"""HPNN: absorb the signs, then fine-tune.

By the capacity theorem a lock is a change of signs, so recovered signs are
multiplied into the weights (`hpnn.absorb`), which gives a plain model on plain
hardware, and training repairs the signs that were wrong.

Needs: the file, the scheme and labelled images. Cost: one training step for
each step; a share of them (`share`) recovers the signs.

Source: the identity is from Chakraborty et al., DAC 2020; it is why fine-tuning
from a wrong key is so cheap.
"""

from collections.abc import Iterator
from typing import Any

from keyjax.attacks import registry
from keyjax.attacks.fit import Recipe, fit
from keyjax.attacks.game import (
  Attacker,
  Budget,
  Claim,
  Cost,
  Goal,
  Model,
)
from keyjax.attacks.hpnn import relax, sign_model
from keyjax.attacks.views import View
from keyjax.schemes import hpnn


@registry.register(
  "hpnn_retrain",
  Goal.FUNCTION,
  ("hpnn",),
  Attacker(images=1),
  tuple({"learning_rate": r} for r in (1e-4, 1e-3)),
)
def retrain(
  view: View,
  budget: Budget,
  share: float = 0.5,
  starts: int = 1,
  **recipe: Any,
) -> Iterator[Claim]:
  """Recover signs from labels, absorb them, and train all weights.

  Args:
    view: The file, the scheme and labelled images.
    budget: Its `steps` are those of both parts together.
    share: Share of the steps that recover the signs.
    starts: Number of starts of the relaxation.
    **recipe: Fields of `fit.Recipe` for the weights.
  """
  problem = sign_model.pose(view)
  data = sign_model.examples(view, view.task.loss, budget.seed)
  first = max(int(share * budget.steps), 1)
  rest = max(budget.steps - first, 1)
  part = Budget(first, 1, budget.seed)
  *_, (cost, signs, _) = relax.solve(
    view, problem, data, part, view.task.loss, starts=starts
  )
  start = hpnn.absorb(sign_model.key_of(problem, signs), problem.params)
  yield Claim(Model(start, view.apply_fn), cost)
  marks = Budget(rest, budget.points).marks()
  for at in fit(
    view.apply_fn,
    start,
    view.data,
    marks,
    Recipe(**recipe),
    budget.seed,
    loss=view.task.loss,
  ):
    spent = Cost(steps=cost.steps + at.step, flops=at.flops)
    yield Claim(Model(at.params, view.apply_fn), spent)
