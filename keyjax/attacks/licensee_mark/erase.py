"""Erasing a licensee's mark, and what is left of the model.

The score is the test accuracy of a model in which the owner cannot trace the
licensee any more, and 0 if they can: marks are worth the accuracy that it
costs to lose them. The attackers know the scheme, not the plain weights.

References:
  Lukas, Jiang, Li, Kerschbaum, "SoK: How Robust is Image Classification Deep
  Neural Network Watermarking?", IEEE S&P 2022: removal attacks by what they
  cost in accuracy.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.attacks import referee, registry
from keyjax.attacks.any_scheme import collusion, fine_tune
from keyjax.attacks.game import (
  Attacker,
  Budget,
  Claim,
  Cost,
  Goal,
  Model,
  Score,
  Target,
)
from keyjax.attacks.views import View
from keyjax.schemes.licensee_mark import NAME, trace_marks

ACCUSE = 1e-6  # Probability of a false accusation that the owner accepts.


def untraced(value: Model, target: Target) -> Score:
  """Return a model's accuracy if the licensee cannot be traced, else 0."""
  evidence = trace_marks({"": target.key}, target.params, value.params)[""]
  found = referee.judge(value, target.test, target.task)
  details = {
    **found.details,
    "accuracy": found.value,
    "mark_score": evidence.score,
    "p_value": evidence.p_value,
  }
  if evidence.p_value <= ACCUSE:
    return Score(0.0, 0.0, 0.0, details)
  return found._replace(details=details)


@registry.register(
  "erase_mark",
  Goal.FUNCTION,
  (NAME,),
  Attacker(knows_scheme=False),
  (
    *({"how": "noise", "strength": s} for s in (0.05, 0.1, 0.2, 0.4)),
    *({"how": "round", "strength": s} for s in (1, 2, 3)),
    *({"how": "prune", "strength": s} for s in (0.3, 0.6)),
    *({"how": "quantize", "strength": s} for s in (4, 8)),
  ),
  referee=untraced,
)
def erase_mark(
  view: View, budget: Budget, how: str = "noise", strength: float = 0.1
) -> Iterator[Claim]:
  """Change all weights at once.

  Args:
    view: The stolen file.
    budget: Its seed; there is nothing to search.
    how: `noise`, Gaussian and relative to each weight; `round` to floats with
      fewer mantissa bits; `prune` the smallest weights of each leaf; `quantize`
      to integers, with a scale for each output.
    strength: Standard deviation of the noise, number of mantissa bits, share
      of the weights, number of bits.
  """
  rng = np.random.default_rng(budget.seed)

  def edit(x: Any) -> Any:
    if x.ndim < 2 or not jnp.issubdtype(x.dtype, jnp.floating):
      return x
    w = np.asarray(x, np.float32)
    return jnp.asarray(_EDITS[how](w, strength, rng), x.dtype)

  edited = jax.tree.map(edit, view.stolen())
  yield Claim(Model(edited, view.apply_fn), Cost(steps=1))


def _noise(
  w: np.ndarray, deviation: float, rng: np.random.Generator
) -> np.ndarray:
  return w * (1 + deviation * rng.standard_normal(w.shape, np.float32))


def _round(w: np.ndarray, bits: float, rng: np.random.Generator) -> np.ndarray:
  del rng
  mantissa, exponent = np.frexp(w)
  scale = 2.0 ** (bits + 1)  # frexp: 0.5 <= mantissa < 1.
  return np.ldexp(np.round(mantissa * scale) / scale, exponent)


def _prune(w: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
  del rng
  return np.where(np.abs(w) < np.quantile(np.abs(w), share), 0.0, w)


def _quantize(
  w: np.ndarray, bits: float, rng: np.random.Generator
) -> np.ndarray:
  del rng
  axes = tuple(range(w.ndim - 1))  # [..., outputs]: a scale for each output.
  largest = np.abs(w).max(axis=axes, keepdims=True)
  scale = np.where(largest > 0, largest, 1) / (2 ** (bits - 1) - 1)
  return np.round(w / scale) * scale


_EDITS = {
  "noise": _noise,
  "round": _round,
  "prune": _prune,
  "quantize": _quantize,
}


@registry.register(
  "erase_by_tuning",
  Goal.FUNCTION,
  (NAME,),
  Attacker(knows_scheme=False, images=1),
  fine_tune.GRID,
  referee=untraced,
)
def erase_by_tuning(
  view: View, budget: Budget, **recipe: Any
) -> Iterator[Claim]:
  """Fine-tune the model; see `fine_tune`."""
  yield from fine_tune.fine_tune(view, budget, **recipe)


@registry.register(
  "erase_by_licensees",
  Goal.FUNCTION,
  (NAME,),
  Attacker(knows_scheme=False, licensees=1),
  tuple({"how": how} for how in ("middle", "median", "mean", "vote")),
  referee=untraced,
)
def erase_by_licensees(
  view: View, budget: Budget, how: str = "middle"
) -> Iterator[Claim]:
  """Combine the copies of more and more licensees; see `collude`."""
  yield from collusion.collude(view, budget, how)
