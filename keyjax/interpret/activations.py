"""Inputs and outputs of every layer, after the key has acted.

A linen model is not changed: an interceptor is placed around the one of a
scheme such as HPNN, so that it sees the keyed output of a locked layer.
"""

import functools
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.interception import intercept
from keyjax.scheme import ApplyFn, PyTree
from keyjax.schemes import hpnn_sites

SIDES = ("in", "out")


def layers(apply_fn: ApplyFn, params: PyTree, x: Any) -> list[str]:
  """List the layers that have a kernel, in the order of their last call.

  Args:
    apply_fn: `model.apply`.
    params: Variables or their shapes.
    x: An input or its shape.
  """
  sites = hpnn_sites.find_sites(apply_fn, params, x)
  return [site.path for site in sites if site.dense]


def taps(paths: Sequence[str]) -> list[str]:
  """Return the taps of `record`: the input and the output of each layer.

  Example:
    >>> taps(["conv_0", "head"])
    ['conv_0 in', 'conv_0 out', 'head in', 'head out']
  """
  return [f"{path} {side}" for path in paths for side in SIDES]


def record(
  forward: ApplyFn, paths: Sequence[str], most: int = 4096
) -> Callable[[PyTree, jax.Array], dict[str, jax.Array]]:
  """Return a pass that records the inputs and outputs of layers.

  The input of a layer is the output of the one before, after nonlinearities.
  That matters with HPNN: its signs on an output are an orthogonal map, which no
  measure that is invariant to such maps can see before the next ReLU.

  Args:
    forward: `forward(params, x)`, bound to its key and not jitted; jit a
      function that takes the key, as for `hpnn.bind`.
    paths: Layers, from `layers`.
    most: Largest number of features of a tap; of wider ones a fixed random
      subset is kept.

  Returns:
    A function of (params, x[n, ...]) that returns float32[n, at most `most`]
    for every tap.

  Example:
    >>> import flax.linen as nn
    >>> model = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(2)])
    >>> x = jnp.ones((3, 4))
    >>> params = model.init(jax.random.key(0), x)
    >>> seen = record(model.apply, layers(model.apply, params, x))(params, x)
    >>> {tap: value.shape for tap, value in seen.items()}
    {'layers_0 in': (3, 4), 'layers_0 out': (3, 8), 'layers_2 in': (3, 8), \
'layers_2 out': (3, 2)}
  """

  def recording(params: PyTree, x: jax.Array) -> dict[str, jax.Array]:
    seen: dict[str, jax.Array] = {}
    keep = functools.partial(_keep, seen, frozenset(paths), most)
    with intercept(keep):
      forward(params, x)
    return seen

  return recording


def _keep(
  seen: dict[str, jax.Array],
  paths: frozenset[str],
  most: int,
  next_fn: Any,
  args: Any,
  kwargs: Any,
  context: Any,
) -> Any:
  out = next_fn(*args, **kwargs)
  path = "/".join(context.module.path)
  if context.method_name == "__call__" and path in paths:
    for side, value in zip(SIDES, (args[0], out), strict=True):
      seen[f"{path} {side}"] = _features(value, f"{path} {side}", most)
  return out


def _features(value: jax.Array, tap: str, most: int) -> jax.Array:
  # [n, ...] -> [n, features]
  flat = value.reshape(len(value), -1).astype(jnp.float32)
  if flat.shape[1] <= most:
    return flat
  order = np.random.default_rng(zlib.crc32(tap.encode()))
  return flat[:, np.sort(order.choice(flat.shape[1], most, replace=False))]


def count_nonfinite(value: np.ndarray) -> int:
  """Return the number of examples with a NaN or infinite feature.

  Example:
    >>> count_nonfinite(np.array([[1.0, np.nan], [0.0, 2.0]]))
    1
  """
  return int((~np.isfinite(value)).any(axis=1).sum())
