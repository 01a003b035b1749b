"""Many small networks under keys of their own: files, and what they answer."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import keyjax
from experiments.attacking import shadows
from keyjax import tree
from keyjax.schemes import hpnn

# Schemes whose networks are trained under the key.
TRAINED_UNDER = ("shf", "np", "ffx")
_LEAST = -20.0  # Logarithm of a probability, for classifiers.


class Locked(NamedTuple):
  """Networks under keys of their own.

  Attributes:
    keys: Their keys, leaves with a first axis over networks; without leaves if
      the scheme has no keys.
    files: What `encrypt` returns, likewise.
    floats: The files, read as floats.
  """

  keys: Any
  files: Any
  floats: Any


def new_keys(scheme: keyjax.Scheme, params: Any, count: int, batch: Any) -> Any:
  """Return a key of a fresh secret for each network.

  Args:
    scheme: The scheme.
    params: Weights of one network.
    count: Number of networks.
    batch: Argument of `keygen`.
  """
  keys = [
    scheme.keygen(keyjax.Secret.generate(), params, batch) for _ in range(count)
  ]
  return jax.tree.map(lambda *x: jnp.stack(x), *keys)


def lock_all(
  scheme: keyjax.Scheme, name: str, nets: shadows.Nets, batch: Any
) -> Locked:
  """Lock each network under a key of its own.

  Args:
    scheme: Scheme that locks.
    name: Name of the scheme. HPNN's file is the plain network with signs
      absorbed: training under its key gives the same (capacity theorem). Of
      `TRAINED_UNDER`, the networks come with the keys that they need.
    nets: The networks.
    batch: Argument of `keygen`.
  """
  params = nets.params
  if name in TRAINED_UNDER:
    if nets.keys is None:
      raise ValueError(f"{name}: these networks were trained without its keys")
    return Locked(nets.keys, params, params)
  one = jax.tree.map(lambda x: x[0], params)
  keys = new_keys(scheme, one, len(nets.label), batch)
  if not jax.tree.leaves(keys):
    return Locked(keys, params, params)
  encrypt: Callable[..., Any] = scheme.encrypt
  if name == "hpnn":
    encrypt = hpnn.absorb
  files = _vmapped(encrypt)(keys, params)
  return Locked(keys, files, tree.as_floats(files, params))


def answers(
  apply_fn: Callable[..., Any],
  params: Any,
  images: Any,
  scheme: keyjax.Scheme | None = None,
  keys: Any = None,
) -> np.ndarray:
  """Return the logits of each network, float32[nets, images, classes].

  Args:
    apply_fn: Forward pass of one plain network.
    params: Weights or files, leaves with a first axis over networks.
    images: float32[n, h, w, c], which all networks are asked.
    scheme: Scheme of the service; None to run the files as they are.
    keys: The keys that the services have.
  """
  run = _asked(apply_fn, scheme)
  with shadows.standard_promotion():
    return np.asarray(run(keys, params, jnp.asarray(images)), np.float32)


def log_probabilities(logits: np.ndarray) -> np.ndarray:
  """Return logarithms of probabilities; of answers that are not finite, 0.

  Args:
    logits: float32[nets, images, classes].
  """
  with np.errstate(invalid="ignore", over="ignore"):
    top = logits.max(-1, keepdims=True)
    found = logits - top
    found = found - np.log(np.exp(found).sum(-1, keepdims=True))
  finite = np.isfinite(logits).all(-1, keepdims=True)
  return np.where(finite, found.clip(_LEAST, 0), 0).astype(np.float32)


def labels(logits: np.ndarray) -> np.ndarray:
  """Return the answered labels, one-hot; of answers not finite, zeros."""
  finite = np.isfinite(logits).all(-1, keepdims=True)
  chosen = logits.argmax(-1)[..., None] == np.arange(logits.shape[-1])
  return (chosen & finite).astype(np.float32)


_vmapped = functools.lru_cache(maxsize=16)(lambda f: jax.jit(jax.vmap(f)))


@functools.lru_cache(maxsize=32)
def _asked(
  apply_fn: Callable[..., Any], scheme: keyjax.Scheme | None
) -> Callable[..., Any]:
  """Return a compiled pass of many networks: keys, files, images to logits."""

  def one(key: Any, params: Any, images: jax.Array) -> Any:
    if scheme is None:
      return apply_fn(params, images)
    return keyjax.authorize(scheme, key, apply_fn)(params, images)

  return jax.jit(jax.vmap(one, in_axes=(0, 0, None)))
