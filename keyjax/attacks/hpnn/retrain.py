"""HPNN: absorb the signs, then fine-tune.

By the capacity theorem a lock is a change of signs, so recovered signs are
multiplied into the weights (`hpnn.absorb`), which gives a plain model on plain
hardware, and training repairs the signs that were wrong.

Needs: the file, the scheme and labelled images. Cost: a training step for each
step; `share` of them go to the signs.

Source: the identity is Chakraborty et al., DAC 2020; it is what makes
fine-tuning a wrong key so cheap.
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
from keyjax.attacks.hpnn import relax as hpnn_relax
from keyjax.attacks.hpnn import signs as hpnn_signs
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
  """Recovers signs from labels, absorbs them, and trains all weights.

  Args:
    view: the file, the scheme and images.
    budget: `steps` of both parts together.
    share: of the steps that go to the signs.
    starts: of the relaxation.
    **recipe: fields of `fit.Recipe` for the weights.
  """
  this = hpnn_signs.problem(view)
  data = hpnn_signs.examples(view, "ce", budget.seed)
  first = max(int(share * budget.steps), 1)
  rest = max(budget.steps - first, 1)
  part = Budget(first, 1, budget.seed)
  *_, (cost, signs, _) = hpnn_relax.solve(
    view, this, data, part, "ce", starts=starts
  )
  start = hpnn.absorb(hpnn_signs.key_of(this, signs), this.params)
  yield Claim(Model(start, view.apply_fn), cost)
  marks = Budget(rest, budget.points).marks()
  for at in fit(
    view.apply_fn, start, view.data, marks, Recipe(**recipe), budget.seed
  ):
    spent = Cost(steps=cost.steps + at.step, flops=at.flops)
    yield Claim(Model(at.params, view.apply_fn), spent)
