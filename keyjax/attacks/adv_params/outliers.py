"""Edits by value only: outliers, duplicates and the largest weights."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from keyjax.attacks import registry
from keyjax.attacks.adv_params import kernels
from keyjax.attacks.game import Attacker, Budget, Claim, Cost, Goal, Model
from keyjax.attacks.views import View

_SHARES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)


@registry.register(
  "clip_outliers",
  Goal.FUNCTION,
  kernels.SCHEMES,
  Attacker(),
  tuple({"spread": s} for s in (1.5, 3.0, 6.0)),
)
def clip_outliers(
  view: View, budget: Budget, spread: float = 6.0
) -> Iterator[Claim]:
  """Set weights far outside the range of their layer to zero.

  A weight that was pushed out of its layer's range gives itself away; what it
  was before is unknown, and zero is the best guess.

  Args:
    view: The stolen file.
    budget: Unused; there is nothing to search.
    spread: Number of interquartile ranges beyond the quartiles from which a
      weight is an outlier.
  """
  edited, count = kernels.edit(view.stolen(), lambda w: far_weights(w, spread))
  yield Claim(Model(edited, view.apply_fn), Cost(steps=1), {"edited": count})


def far_weights(w: np.ndarray, spread: float) -> tuple[np.ndarray, Any]:
  """Return which weights of a layer are outliers, and what replaces them.

  Args:
    w: Weights, of any shape.
    spread: Number of interquartile ranges beyond the quartiles.
  """
  low, high = np.quantile(w, (0.25, 0.75))
  reach = spread * (high - low)
  return (w < low - reach) | (w > high + reach), 0.0


@registry.register(
  "drop_duplicates", Goal.FUNCTION, kernels.SCHEMES, Attacker()
)
def drop_duplicates(view: View, budget: Budget) -> Iterator[Claim]:
  """Zero the weights whose exact value occurs twice in a layer.

  A step that saturates leaves the layer's bound, the same float each time.
  """
  edited, count = kernels.edit(view.stolen(), _duplicates)
  yield Claim(Model(edited, view.apply_fn), Cost(steps=1), {"edited": count})


def _duplicates(w: np.ndarray) -> tuple[np.ndarray, Any]:
  values, counts = np.unique(w, return_counts=True)
  return np.isin(w, values[(counts > 1) & (values != 0)]), 0.0


@registry.register("prune_largest", Goal.FUNCTION, kernels.SCHEMES, Attacker())
def prune_largest(view: View, budget: Budget) -> Iterator[Claim]:
  """Zero the largest weights, a growing share of them: a curve."""
  stolen = view.stolen()
  for share in _SHARES:
    edited, count = kernels.edit(
      stolen, functools.partial(_largest, share=share)
    )
    details = {"edited": count, "share": share}
    yield Claim(Model(edited, view.apply_fn), Cost(steps=count), details)


def _largest(w: np.ndarray, share: float) -> tuple[np.ndarray, Any]:
  return np.abs(w) > np.quantile(np.abs(w), 1 - share), 0.0
