"""A stolen model whose channels a key permutes, and scores of claimed keys."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.attacks import referee
from keyjax.attacks.game import Model, Score, Target
from keyjax.attacks.views import View
from keyjax.scheme import ApplyFn
from keyjax.schemes import feature_layers
from keyjax.schemes.feature_permutation import FeatureKey, bind

SCHEMES = (feature_layers.NAME,)


def no_key(view: View) -> FeatureKey:
  """Return the key that permutes nothing, of the layers that are locked."""
  x = jax.tree.map(lambda a: jnp.asarray(a[:1]), view.data.image)
  layers = view.options.get("layers")
  chosen = feature_layers.choose(view.apply_fn, view.like, x, layers)
  return FeatureKey(
    orders={layer.path: jnp.arange(layer.features) for layer in chosen}
  )


@functools.lru_cache(maxsize=16)
def under_key(apply_fn: ApplyFn) -> ApplyFn:
  """Return a pass that takes `(params, key)`; it serves every key."""

  def run(params_and_key: Any, x: Any) -> Any:
    params, key = params_and_key
    return bind(key, apply_fn)(params, x)

  return run


def function_referee(claimed: FeatureKey, target: Target) -> Score:
  """Score the metric under a claimed key, and count its right channels."""
  params = target.floats(target.locked)
  model = Model((params, claimed), under_key(target.apply_fn))
  found = referee.judge(model, target.test, target.task)
  pairs = [
    (np.asarray(claimed.orders[path]), np.asarray(order))
    for path, order in target.key.orders.items()
  ]
  counts = {
    "channels": sum(order.size for _, order in pairs),
    "channels_right": int(sum((a == b).sum() for a, b in pairs)),
    "layers": len(pairs),
    "layers_right": sum(bool((a == b).all()) for a, b in pairs),
  }
  return found._replace(details={**(found.details or {}), **counts})
