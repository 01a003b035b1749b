"""HPNN: read the signs off the weights, with no data and no query.

A lock multiplies by L what the network learned as L W. Trained ReLU neurons
that are fed by other ReLU neurons are mostly off: the mean of their effective
weights is below 0, so the sign of the mean of the stolen ones is -L. In the
first layer, whose inputs have no sign, the bias carries the same evidence.
Where the schedule is known, the evidence of all neurons on a unit adds up.

Needs: the file and the scheme. Cost: a mean over the weights.

Source: found while measuring the other attacks, which start from it.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from keyjax import tree
from keyjax.attacks import registry
from keyjax.attacks.game import Attacker, Budget, Claim, Goal
from keyjax.attacks.hpnn import sign_model, sign_referees
from keyjax.attacks.hpnn.sign_model import Problem
from keyjax.attacks.views import View

# All combinations of directions are tried for up to this many layers.
_LAYERS = 4


def evidence(problem: Problem, turns: Sequence[int] = ()) -> np.ndarray:
  """Return the evidence of the weights for each sign.

  Args:
    problem: The unknowns.
    turns: Direction of the mean effective weight of each locked layer, -1 by
      default: in a small network it may be +1.

  Returns:
    float32[size], above 0 for +1: t statistics of the mean incoming weight,
    and biases in standard deviations where the inputs are pixels.
  """
  paths, leaves, _ = tree.flatten(problem.params)
  found = dict(zip(paths, map(np.asarray, leaves), strict=True))
  total = np.zeros(problem.size, np.float32)
  for i, (path, units) in enumerate(problem.units.items()):
    prefix = f"params/{path}"
    kernel = found.get(f"{prefix}/kernel")
    bias = found.get(f"{prefix}/bias")
    if i == 0 and bias is not None and bias.any():
      score = bias / bias.std()
    elif kernel is not None:
      rows = kernel.reshape(-1, kernel.shape[-1])  # [..., features] -> 2 axes
      spread = rows.std(0) / np.sqrt(len(rows))
      score = rows.mean(0) / np.maximum(spread, 1e-12)
    else:
      continue
    np.add.at(total, np.asarray(units), score * (turns[i] if turns else -1))
  return total


def oriented(
  problem: Problem, measure: Callable[[np.ndarray], float]
) -> list[np.ndarray]:
  """Return the evidence for each combination of directions, best first.

  Args:
    problem: The unknowns.
    measure: Function `signs -> loss` that ranks them.
  """
  depth = len(problem.units)
  if depth <= _LAYERS:
    turns = list(itertools.product((-1, 1), repeat=depth))
  else:  # One layer at a time has the other direction.
    flips = [2 * np.eye(depth, dtype=int)[i] - 1 for i in range(depth)]
    turns = [(-1,) * depth, *(tuple(f.tolist()) for f in flips)]
  found = [evidence(problem, t) for t in turns]
  losses = [measure(_signs(f)) for f in found]
  return [found[i] for i in np.argsort(losses, kind="stable")]


def _signs(scores: np.ndarray) -> np.ndarray:
  return np.where(scores < 0, -1, 1).astype(np.float32)


@registry.register(
  "hpnn_statistics",
  Goal.FUNCTION,
  ("hpnn",),
  Attacker(),
  referee=sign_referees.function_referee,
)
def statistics(view: View, budget: Budget) -> Iterator[Claim]:
  """Claim the signs that the weights are evidence for."""
  del budget  # There is nothing to search.
  problem = sign_model.pose(view)
  yield Claim(sign_model.key_of(problem, evidence(problem)))
