"""HPNN after training: compare the file with the public model it was made from.

Signs that are written into a trained model negate columns of its weights and
nothing else. Beside the plain model each column shows its sign at once; beside
one that was trained a little further, its correlation does.

Needs: the file, and the plain model or one like it; no data, no query. Cost: a
product over the weights. A model that was trained under its key has no such
base.

Source: the capacity theorem of HPNN, read backwards.
"""

from collections.abc import Iterator

import numpy as np

from keyjax import tree
from keyjax.attacks import registry
from keyjax.attacks.game import Attacker, Budget, Claim, Cost, Goal
from keyjax.attacks.hpnn import sign_model, sign_referees
from keyjax.attacks.views import View
from keyjax.schemes import hpnn_lock


@registry.register(
  "hpnn_base",
  Goal.FUNCTION,
  ("hpnn",),
  Attacker(has_base=True),
  referee=sign_referees.function_referee,
)
def base_signs(view: View, budget: Budget) -> Iterator[Claim]:
  """Claim the signs in which the file differs from the base.

  Args:
    view: The file, the scheme and the base.
    budget: Unused; there is nothing to search.

  Raises:
    ValueError: If there is no base.
  """
  del budget
  if view.base is None:
    raise ValueError(
      "hpnn_base: this model has no public base: it was trained under its key"
    )
  problem = sign_model.pose(view)
  base = _by_weight(view.floats(view.base))
  total = np.zeros(problem.size, np.float64)
  for weight, stolen in _by_weight(problem.params).items():
    module, _ = weight
    if module in problem.units:
      # [..., features] of both -> [features]
      product = np.multiply(stolen, base[weight], dtype=np.float64)
      score = product.reshape(-1, product.shape[-1]).sum(0)
      np.add.at(total, np.asarray(problem.units[module]), score)
  yield Claim(sign_model.key_of(problem, total), Cost(steps=1))


def _by_weight(params: object) -> dict[tuple[str, str], np.ndarray]:
  """Return the kernels, biases and scales by module and name."""
  paths, leaves, _ = tree.flatten(params)
  named = zip(map(hpnn_lock.module_of, paths), leaves, strict=True)
  return {
    at: np.asarray(leaf) for at, leaf in named if at[1] in hpnn_lock.WEIGHTS
  }
