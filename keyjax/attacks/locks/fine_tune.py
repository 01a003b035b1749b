"""Fine-tuning, against the same budget from scratch.

The thief trains the stolen file on the labelled images that he has. The figure
that matters is not the accuracy that he reaches but its gain over training
from scratch with the same images and steps: what the locked weights were worth
to him. `gain` takes it from two results.

References:
  Tamirisa et al., "Tamper-Resistant Safeguards for Open-Weight LLMs", 2024,
  and Qi et al., "On Evaluating the Durability of Safeguards for Open-Weight
  LLMs", 2024: attackers sweep their settings, and the best one counts.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.attacks import intervals, registry
from keyjax.attacks.fit import Recipe, fit
from keyjax.attacks.game import (
  Attacker,
  Budget,
  Claim,
  Cost,
  Goal,
  Model,
  View,
)
from keyjax.attacks.referee import AttackResult
from keyjax.scheme import PyTree

# A weight this large is ciphertext and not a weight.
_LARGEST = 1e3
GRID = tuple(
  {"optimizer": optimizer, "learning_rate": rate}
  for optimizer, rates in (("adam", (3e-4, 1e-3, 3e-3)), ("sgd", (1e-2, 1e-1)))
  for rate in rates
)


@registry.register(
  "fine_tune",
  Goal.FUNCTION,
  (registry.ANY,),
  Attacker(knows_scheme=False, images=1),
  GRID,
)
def fine_tune(
  view: View, budget: Budget, layers: str = ".*", **recipe: Any
) -> Iterator[Claim]:
  """Trains the stolen file; leaves that are noise begin anew.

  Args:
    view: at least the file and a labelled image.
    budget: `steps` of training.
    layers: a regular expression of the leaf paths that train.
    **recipe: fields of `fit.Recipe`.
  """
  start, renewed = usable(view, budget.seed)
  more = {"renewed_leaves": renewed, "layers": layers}
  # What the file is worth before the first step.
  yield Claim(Model(start, view.apply_fn), Cost(), more)
  yield from _train(view, start, budget, Recipe(layers=layers, **recipe), more)


@registry.register(
  "scratch",
  Goal.FUNCTION,
  (registry.ANY,),
  Attacker(knows_scheme=False, has_locked=False, images=1),
  GRID,
)
def scratch(view: View, budget: Budget, **recipe: Any) -> Iterator[Claim]:
  """Trains a fresh model: what the images are worth without the file."""
  start = view.init(jax.random.key(budget.seed))
  yield Claim(Model(start, view.apply_fn), Cost())
  yield from _train(view, start, budget, Recipe(**recipe), {})


def _train(
  view: View,
  start: PyTree,
  budget: Budget,
  recipe: Recipe,
  details: Mapping[str, Any],
) -> Iterator[Claim]:
  more = {**details, "images": len(view.data.label)}
  marks = budget.marks()
  for at in fit(view.apply_fn, start, view.data, marks, recipe, budget.seed):
    cost = Cost(steps=at.step, flops=at.flops)
    yield Claim(Model(at.params, view.apply_fn), cost, more)


def usable(view: View, seed: int = 0) -> tuple[PyTree, int]:
  """Returns the stolen params, with noise replaced by fresh weights.

  A thief sees which leaves cannot be weights: values that are not finite, or
  far larger than any weight.

  Returns:
    The params, and how many leaves were replaced.
  """
  stolen = view.stolen()
  fresh = view.init(jax.random.key(seed))
  count = 0

  def pick(x: Any, y: Any) -> Any:
    nonlocal count
    if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
      return x
    value = np.asarray(x, np.float32)
    if np.isfinite(value).all() and np.abs(value).max(initial=0) < _LARGEST:
      return x
    count += 1
    return y

  return jax.tree.map(pick, stolen, fresh), count


def gain(tuned: AttackResult, fresh: AttackResult) -> dict[str, float]:
  """Returns what the stolen weights added to training from scratch.

  Returns:
    `value`, `low` and `high` of the difference of the two accuracies.
  """
  first, second = tuned.score, fresh.score
  low, high = intervals.difference(first[:3], second[:3])
  return {"value": first.value - second.value, "low": low, "high": high}
