"""A locked model in the conditions that its keys create, to be looked into."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import keyjax
from experiments.protection import job as context
from experiments.protection import judge, lock, pictures
from experiments.protection.job import Run
from keyjax import tree
from keyjax.attacks.game import Target
from keyjax.interpret import activations, saliency

_BATCH = 500
_OPEN = keyjax.identity()
_FRESH_SEED = 1
CONDITIONS = ("right", "wrong", "no_key", "fresh")


class Condition(NamedTuple):
  """Somebody who runs the model.

  Attributes:
    name: one of `CONDITIONS`; `fresh` is an untrained network, which says
      what a figure is worth.
    scheme: whose `bind` he runs.
    key: his key.
    params: what the forward pass runs on, decrypted and dequantised.
  """

  name: str
  scheme: keyjax.Scheme
  key: Any
  params: Any


def conditions(
  run: Run, spec: ConfigDict, target: Target, wrong: int
) -> list[Condition]:
  """Returns the right key, wrong keys, the file alone, and a fresh network.

  Args:
    run: the config and the data.
    spec: the scheme's, from the config.
    target: the locked model.
    wrong: how many wrong keys.
  """
  this = lock.build(spec.scheme, dict(spec.args), run.model)
  guesses = judge.wrong_keys(run, this, target.key, target.params, wrong)

  @jax.jit
  def opened(key: Any, locked: Any) -> Any:
    return target.floats(target.scheme.decrypt(key, locked))

  named = [("right", target.key), *(("wrong", guess) for guess in guesses)]
  found = [
    Condition(name, target.scheme, key, opened(key, target.locked))
    for name, key in named
  ]
  stolen = target.floats(tree.as_floats(target.locked, target.params))
  fresh = target.init(jax.random.key(_FRESH_SEED))
  found.append(Condition("no_key", _OPEN, (), stolen))
  return [*found, Condition("fresh", _OPEN, (), fresh)]


def paths(target: Target) -> tuple[str, ...]:
  """Returns the layers that have a kernel."""
  shapes = jax.eval_shape(target.init, jax.random.key(0))
  return tuple(
    activations.layers(target.apply_fn, shapes, target.test.image[:1])
  )


def look(
  target: Target, condition: Condition, images: np.ndarray
) -> dict[str, np.ndarray]:
  """Returns float32[n, features] of every tap, in the order of the layers."""
  names = paths(target)
  static = condition.scheme, target.apply_fn, names
  parts = [
    jax.device_get(
      _activations(*static, condition.key, condition.params, jnp.asarray(x))
    )
    for x in _batches(images)
  ]
  return {
    tap: np.concatenate([part[tap] for part in parts])
    for tap in activations.taps(names)
  }


def _batches(images: np.ndarray) -> Iterator[np.ndarray]:
  for start in range(0, len(images), _BATCH):
    yield images[start : start + _BATCH]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _activations(
  scheme: keyjax.Scheme,
  apply_fn: Any,
  names: tuple[str, ...],
  key: Any,
  params: Any,
  x: jax.Array,
) -> dict[str, jax.Array]:
  forward = scheme.bind(key, apply_fn)
  return activations.record(forward, names)(params, x)


def maps(
  target: Target, condition: Condition, images: np.ndarray, labels: np.ndarray
) -> dict[str, np.ndarray]:
  """Returns saliency maps, float32[n, h, w], by the name of their method."""
  static = condition.scheme, target.apply_fn
  x, y = jnp.asarray(images), jnp.asarray(labels)
  return jax.device_get(_maps(*static, condition.key, condition.params, x, y))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _maps(
  scheme: keyjax.Scheme,
  apply_fn: Any,
  key: Any,
  params: Any,
  x: jax.Array,
  y: jax.Array,
) -> dict[str, jax.Array]:
  args = scheme.bind(key, apply_fn), params, x, y
  return {
    "gradient": saliency.gradient(*args),
    "smooth_grad": saliency.smooth_grad(*args, jax.random.key(0)),
  }


def demonstration(
  run: Run, label: str, spec: ConfigDict, target: Target
) -> Target:
  """Returns a model of the same kind, with a key for pictures alone.

  A saliency map under the owner's key is what a server that explains itself
  would give away, and it says more of a key than a label does.
  """
  this = lock.build(spec.scheme, dict(spec.args), run.model)
  key, variables = pictures.demonstration(run, label, this)
  params = jax.tree.map(jnp.asarray, this.prepare(variables))
  if key is None:
    batch = context.keygen_batch(run)
    key = this.scheme.keygen(keyjax.Secret.generate(), params, batch)
  locked = jax.jit(this.scheme.encrypt)(key, params)
  return dataclasses.replace(
    target, scheme=this.scheme, key=key, params=params, locked=locked
  )
