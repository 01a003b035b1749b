"""Feature permutation: the statistics that batch normalisation stores.

A normalisation after a locked layer keeps the mean and the variance of each
channel after the permutation. A few images give those before it, and matching
the two gives the order. The layers are met one after the other, in one forward
pass, each on what the orders before it let through.

A layer that no such normalisation follows, as a transposed convolution whose
output is handed on, keeps its order; `feature_swaps` continues there.

Needs: the file, the scheme, and images without labels. Cost: a forward pass and
an assignment problem for each layer.

Source: ours.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from keyjax import tasks, tree
from keyjax.attacks import registry
from keyjax.attacks.feature_permutation import order_model
from keyjax.attacks.game import Attacker, Budget, Claim, Cost, Goal
from keyjax.attacks.views import View
from keyjax.interception import intercept
from keyjax.schemes import hpnn_lock
from keyjax.schemes.feature_permutation import FeatureKey

_IMAGES = 1024
_LEAST = 1e-3  # Deviation of a channel; dead ones have none.


@registry.register(
  "feature_statistics",
  Goal.FUNCTION,
  order_model.SCHEMES,
  Attacker(images=1),
  referee=order_model.function_referee,
)
def feature_statistics(view: View, budget: Budget) -> Iterator[Claim]:
  """Claim the orders that match channels to stored statistics.

  Args:
    view: The file, the scheme and images.
    budget: Unused; there is nothing to search.
  """
  del budget
  key, found = match(view)
  yield Claim(key, Cost(steps=1), {"layers_matched": len(found)})


def match(view: View) -> tuple[FeatureKey, list[str]]:
  """Return the key that statistics give, and the layers that they give."""
  key = order_model.no_key(view)
  params = view.stolen()
  images = tasks.take(view.data.image, slice(_IMAGES))
  x = jax.tree.map(jnp.asarray, images)
  after = _normalised_by(view, params, x, key)
  stored = _stored(params)
  found: dict[str, jax.Array] = {}
  calls = hpnn_lock.Outermost()

  def permute(next_fn: Any, args: Any, kwargs: Any, context: Any) -> Any:
    path = hpnn_lock.path_of(context)
    if context.method_name != "__call__" or path not in after:
      return next_fn(*args, **kwargs)
    out, outermost = calls.call(path, lambda: next_fn(*args, **kwargs))
    if not outermost:
      return out
    if path not in found:
      found[path] = _assign(_moments(out), stored[after[path]])
    return out[..., found[path]]

  with intercept(permute):
    view.apply_fn(params, x)
  return key.replace(orders=key.orders | found), list(found)


def _normalised_by(
  view: View, params: Any, x: Any, key: FeatureKey
) -> dict[str, str]:
  """Return the normalisation with statistics that follows each locked layer."""
  stored = _stored(params)
  after: dict[str, str] = {}
  last = ""

  def record(next_fn: Any, args: Any, kwargs: Any, context: Any) -> Any:
    nonlocal last
    path = hpnn_lock.path_of(context)
    out = next_fn(*args, **kwargs)
    if context.method_name == "__call__" and path:
      if (
        path in stored
        and last in key.orders
        and len(stored[path][0]) == len(key.orders[last])
      ):
        after.setdefault(last, path)
      last = path
    return out

  def probe(variables: Any, inputs: Any) -> Any:
    with intercept(record):
      return view.apply_fn(variables, inputs)

  jax.eval_shape(probe, params, x)
  return after


def _stored(params: Any) -> dict[str, np.ndarray]:
  """Return float[2, features] of each normalisation: mean and deviation."""
  paths, leaves, _ = tree.flatten(params)
  parts: dict[str, dict[str, np.ndarray]] = {}
  for path, leaf in zip(paths, leaves, strict=True):
    module, _, name = (
      path.removeprefix("batch_stats/").removesuffix("/value").rpartition("/")
    )
    if name in ("mean", "var") and np.ndim(leaf) == 1:
      parts.setdefault(module, {})[name] = np.asarray(leaf, np.float64)
  return {
    module: np.stack([part["mean"], np.sqrt(np.maximum(part["var"], 0))])
    for module, part in parts.items()
    if len(part) == 2
  }


def _moments(out: jax.Array) -> np.ndarray:
  """Return float[2, features]: mean and deviation of each channel."""
  rows = np.asarray(out, np.float64).reshape(-1, out.shape[-1])
  return np.stack([rows.mean(0), rows.std(0)])


def _assign(before: np.ndarray, after: np.ndarray) -> jax.Array:
  """Return the order of channels whose moments fit best, int32[features]."""
  # [after, 1] against [1, before]
  deviations = (
    np.maximum(after[1][:, None], _LEAST),
    np.maximum(before[1][None], _LEAST),
  )
  # In units of the deviation: channels of small values are told apart too.
  apart = np.abs(after[0][:, None] - before[0][None]) / np.minimum(*deviations)
  distance = apart + np.abs(np.log(deviations[0] / deviations[1]))
  # Statistics of a broken file may be NaN: such a channel fits none.
  distance = np.nan_to_num(distance, nan=np.inf, posinf=np.inf)
  distance = np.minimum(distance, np.finfo(np.float32).max)
  _, order = scipy.optimize.linear_sum_assignment(distance)
  return jnp.asarray(order, jnp.int32)
