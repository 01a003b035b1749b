"""The weights that a sparse lock may have changed, and how to edit them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import tasks, tree
from keyjax.attacks.game import Examples
from keyjax.scheme import PyTree

SCHEMES = ("adv_params", "keyed_noise")
# Quantiles between which unchanged weights are.
_INNER = (0.01, 0.99)
_LAYERS = ".*kernel"


def indices(params: PyTree) -> list[int]:
  """Return the indices of the leaves that a search may change."""
  match = tree.matcher(_LAYERS)
  return [i for i, p in enumerate(tree.flatten(params)[0]) if match(p)]


def edit(
  params: PyTree,
  find: Callable[..., tuple[np.ndarray, Any]],
  other: PyTree = None,
) -> tuple[PyTree, int]:
  """Apply `find(w) -> (mask, value)` to every kernel.

  Args:
    params: Tree whose kernels are edited.
    find: Function that returns which weights to replace, and by what; called
      as `find(w, w_other)` where `other` is given.
    other: Tree of the same structure.

  Returns:
    The edited tree and the number of weights that were replaced.
  """
  kernels = set(indices(params))
  leaves, treedef = jax.tree.flatten(params)
  others = leaves if other is None else jax.tree.leaves(other)
  edited = []
  count = 0
  for i, (x, y) in enumerate(zip(leaves, others, strict=True)):
    if i in kernels:
      w = np.asarray(x, np.float32)
      mask, value = find(w) if other is None else find(w, np.asarray(y))
      count += int(mask.sum())
      x = jnp.asarray(np.where(mask, value, w), x.dtype)
    edited.append(x)
  return jax.tree.unflatten(treedef, edited), count


def inner_range(w: Any) -> np.ndarray:
  """Return the range of the unchanged weights of a leaf, float[2]."""
  return np.asarray(np.quantile(np.asarray(w), _INNER))


def first_order(x: Any, slope: Any, span: Any) -> np.ndarray:
  """Return the most that moving each weight within a range lowers the loss.

  Args:
    x: Weights, of any shape.
    slope: Gradient of the loss, of the same shape.
    span: Low and high end of the range.

  Returns:
    float32[size], to first order.
  """
  # [...] -> [size]
  w, g = (np.asarray(v, np.float32).reshape(-1) for v in (x, slope))
  low, high = span
  return np.nan_to_num(np.maximum(g * (w - low), g * (w - high)))


def split(data: Examples, count: int) -> tuple[Any, Any]:
  """Return the first `count` examples, and the others.

  Where no others are left, the first ones take their place.
  """
  whole = jax.tree.map(jnp.asarray, tuple(data))
  first = tasks.take(whole, slice(count))
  if count == tasks.num_examples(whole):
    return first, first
  return first, tasks.take(whole, slice(count, None))
