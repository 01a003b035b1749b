"""Repair from the public model that the target was fine-tuned from."""

from collections.abc import Iterator

import numpy as np

from keyjax.attacks import registry
from keyjax.attacks.adv_params import kernels
from keyjax.attacks.game import Attacker, Budget, Claim, Cost, Goal, Model
from keyjax.attacks.views import View


@registry.register(
  "nearest_base",
  Goal.FUNCTION,
  kernels.SCHEMES,
  Attacker(has_base=True),
  tuple({"spread": s} for s in (6.0, 20.0)),
)
def nearest_base(
  view: View, budget: Budget, spread: float = 6.0
) -> Iterator[Claim]:
  """Restore the base model's value where the file is far from it.

  Args:
    view: The stolen file and the base model.
    budget: Unused; there is nothing to search.
    spread: Distance from the base, in units of its 0.9 quantile, beyond which
      a weight was changed by the lock.
  """

  def far(w: np.ndarray, base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    distance = np.abs(w - base)
    return distance > spread * np.quantile(distance, 0.9), base

  edited, count = kernels.edit(view.stolen(), far, view.floats(view.base))
  yield Claim(Model(edited, view.apply_fn), Cost(steps=1), {"edited": count})
