"""A locked model in the conditions that its keys create."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import keyjax
from experiments.protection import judge
from experiments.protection.job import Job
from keyjax import tree
from keyjax.attacks.game import Target
from keyjax.interpret import activations, saliency
from keyjax.scheme import BindFn

_BATCH = 500
_UNLOCKED = keyjax.identity()
_FRESH_SEED = 1
CONDITIONS = ("right", "wrong", "no_key", "fresh")


class Condition(NamedTuple):
  """A model as its owner, an attacker or nobody runs it.

  Attributes:
    name: One of `CONDITIONS`; `fresh` is an untrained network, the reference
      for every figure.
    scheme: Scheme whose `bind` applies.
    key: Key of the scheme.
    params: Params of the forward pass, decrypted and dequantized.
  """

  name: str
  scheme: keyjax.Scheme
  key: Any
  params: Any


def conditions(
  job: Job, label: str, target: Target, wrong: int
) -> list[Condition]:
  """Return the right key, wrong keys, the file alone, and a fresh network.

  Args:
    job: The job.
    label: Label of the protection.
    target: Locked model.
    wrong: Number of wrong keys.
  """
  guesses = judge.wrong_keys(
    job, job.locks[label], target.key, target.params, wrong
  )

  @jax.jit
  def decrypt(key: Any, locked: Any) -> Any:
    return target.floats(target.scheme.decrypt(key, locked))

  keys = [("right", target.key), *(("wrong", guess) for guess in guesses)]
  with_keys = [
    Condition(name, target.scheme, key, decrypt(key, target.locked))
    for name, key in keys
  ]
  stolen = target.floats(tree.as_floats(target.locked, target.params))
  fresh = target.init(jax.random.key(_FRESH_SEED))
  return [
    *with_keys,
    Condition("no_key", _UNLOCKED, (), stolen),
    Condition("fresh", _UNLOCKED, (), fresh),
  ]


def layer_paths(target: Target) -> tuple[str, ...]:
  """Return the paths of the layers that have a kernel."""
  shapes = jax.eval_shape(target.init, jax.random.key(0))
  return tuple(
    activations.layers(target.apply_fn, shapes, target.test.image[:1])
  )


def activations_of(
  target: Target, condition: Condition, images: np.ndarray
) -> dict[str, np.ndarray]:
  """Return activations by tap, in the order of the layers.

  Args:
    target: Locked model.
    condition: Condition that it runs in.
    images: float32[n, h, w, c].

  Returns:
    float32[n, features] by `PATH in` and `PATH out`.
  """
  names = layer_paths(target)
  bind, key = _binding(condition)
  parts = [
    jax.device_get(
      _activations(
        bind,
        target.apply_fn,
        names,
        key,
        condition.params,
        jnp.asarray(batch),
      )
    )
    for batch in _batches(images)
  ]
  return {
    tap: np.concatenate([part[tap] for part in parts])
    for tap in activations.taps(names)
  }


def _binding(condition: Condition) -> tuple[BindFn, Any]:
  """Return a condition's `bind` and key; no key if it binds nothing.

  So all conditions that run the plain model share one program.
  """
  bind = condition.scheme.bind
  return bind, () if bind is _UNLOCKED.bind else condition.key


def _batches(images: np.ndarray) -> Iterator[np.ndarray]:
  for start in range(0, len(images), _BATCH):
    yield images[start : start + _BATCH]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _activations(
  bind: BindFn,
  apply_fn: Any,
  names: tuple[str, ...],
  key: Any,
  params: Any,
  x: jax.Array,
) -> dict[str, jax.Array]:
  forward = bind(key, apply_fn)
  return activations.record(forward, names)(params, x)


def saliency_maps(
  target: Target, condition: Condition, images: np.ndarray, labels: np.ndarray
) -> dict[str, np.ndarray]:
  """Return saliency maps, float32[n, h, w], by the name of their method."""
  bind, key = _binding(condition)
  return jax.device_get(
    _saliency_maps(
      bind,
      target.apply_fn,
      key,
      condition.params,
      jnp.asarray(images),
      jnp.asarray(labels),
    )
  )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _saliency_maps(
  bind: BindFn,
  apply_fn: Any,
  key: Any,
  params: Any,
  x: jax.Array,
  y: jax.Array,
) -> dict[str, jax.Array]:
  forward = bind(key, apply_fn)
  rng = jax.random.key(0)
  return {
    "gradient": saliency.gradient(forward, params, x, y),
    "smooth_grad": saliency.smooth_grad(forward, params, x, y, rng),
  }
