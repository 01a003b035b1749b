"""Attackers without the key: functions of params, for every setting of a sweep.

All know the network, and have what was stolen and some demonstrations of the
restricted task. The best setting of a sweep is chosen by the score on the test
data itself, which no attacker has: what is reported is more than they get.
"""

import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from experiments.capabilities import training
from experiments.capabilities.task import SLOT, Batch
from keyjax import tiers

Params = Any
Setting = dict[str, float]
_FRESH = "fresh"  # Experts that an attacker adds.
_ALL = ".*"
_POSITIONS = "position_embedding"
_BIASES = r"block_\d+/mlp_out/bias"


class Scene(NamedTuple):
  """What an attacker has.

  Attributes:
    module: Network.
    params: Params that were stolen.
    present: Tiers that these have.
    demonstrations: Restricted examples; of a fixed number, so that one program
      serves attackers with any number of them.
    known: How many of these the attacker has, the first ones.
    batch_size: Examples of a step.
    sweep: Settings of all attacks: `steps`, `learning_rates`, `noise`, ...
  """

  module: nn.Module
  params: Params
  present: Mapping[str, bool]
  demonstrations: Batch
  known: int
  batch_size: int
  sweep: Mapping[str, Sequence[float]]


class Attacked(NamedTuple):
  """Params that an attack made.

  Attributes:
    setting: Setting of the sweep.
    params: Params.
    module: Network that runs them.
    present: Tiers that it runs with.
  """

  setting: Setting
  params: Params
  module: nn.Module
  present: Mapping[str, bool]


class Attack(NamedTuple):
  """An attack.

  Attributes:
    title: What it does, as tables say it.
    trains: Whether it needs demonstrations.
    play: Function of a scene and a PRNG key: params for every setting.
    needs_many: Whether it is tried with the most demonstrations alone.
  """

  title: str
  trains: bool
  play: Callable[[Scene, jax.Array], Iterator[Attacked]]
  needs_many: bool = False


def fine_tune(
  scene: Scene, rng: jax.Array, leaves: str = _ALL
) -> Iterator[Attacked]:
  """Yield params after steps of Adam on demonstrations.

  Args:
    scene: What the attacker has.
    rng: PRNG key of batches.
    leaves: Pattern of the leaves that are trained.
  """
  yield from _tune(scene, rng, _mask(scene.params, leaves))


def _tune(scene: Scene, rng: jax.Array, mask: Params) -> Iterator[Attacked]:
  """Yield params after steps with masked gradients."""
  steps = tuple(int(x) for x in scene.sweep["steps"])
  rates = scene.sweep["learning_rates"]
  run = _tuned(
    scene.module,
    tuple(scene.present.items()),
    max(steps),
    math.gcd(*steps),
    scene.batch_size,
  )
  found = run(
    scene.params,
    mask,
    scene.demonstrations,
    scene.known,
    jnp.asarray(rates, jnp.float32),
    rng,
  )
  for i, rate in enumerate(rates):
    for count in steps:
      at = count // math.gcd(*steps) - 1
      params = jax.tree.map(lambda x, i=i, at=at: x[i, at], found)
      setting = {"learning_rate": rate, "steps": count}
      yield Attacked(setting, params, scene.module, scene.present)


def soft_prompt(scene: Scene, rng: jax.Array) -> Iterator[Attacked]:
  """Yield params whose slot for a password has learned embeddings.

  A few numbers in the place of the password, so that a few demonstrations are
  enough to learn them; they are added to the position, not to a token.
  """
  mask = _mask(scene.params, _POSITIONS)
  whole = jnp.zeros_like(scene.params[_POSITIONS])
  mask[_POSITIONS] = whole.at[:, :SLOT].set(1.0)
  yield from _tune(scene, rng, mask)


def fresh_experts(
  scene: Scene, rng: jax.Array, leaves: str = _ALL
) -> Iterator[Attacked]:
  """Yield params with new experts in every block, after the same steps.

  Args:
    scene: What the attacker has.
    rng: PRNG key of new experts and batches.
    leaves: Pattern of the leaves that are trained.
  """
  draw, rest = jax.random.split(rng)
  yield from fine_tune(with_fresh(scene, draw), rest, leaves)


def with_fresh(scene: Scene, rng: jax.Array) -> Scene:
  """Return a scene whose network has a further expert in every block.

  Args:
    scene: What the attacker has.
    rng: PRNG key of its params.
  """
  module = scene.module.clone(experts=(*scene.module.experts, _FRESH))
  drawn = flatten_dict(training.initial(module, 1.0, rng))
  own = {path: x for path, x in drawn.items() if _FRESH in path}
  params = unflatten_dict(flatten_dict(scene.params) | own)
  present = {**scene.present, _FRESH: True}
  return scene._replace(module=module, params=params, present=present)


def weight_noise(scene: Scene, rng: jax.Array) -> Iterator[Attacked]:
  """Yield params with noise, of several draws for each size.

  Sizes are in standard deviations of each leaf.
  """
  draws = int(scene.sweep["draws"][0])
  for size in scene.sweep["noise"]:
    for i, own in enumerate(jax.random.split(rng, draws)):
      setting = {"noise": size, "draw": i}
      yield _changed(scene, setting, _noisy(scene.params, size, own))


def prune(scene: Scene, rng: jax.Array) -> Iterator[Attacked]:
  """Yield params without the smallest weights of each kernel."""
  del rng
  for share in scene.sweep["pruned"]:
    yield _changed(scene, {"share": share}, _pruned(scene.params, share))


def quantize(scene: Scene, rng: jax.Array) -> Iterator[Attacked]:
  """Yield params that are rounded to a few bits, with a scale for each leaf."""
  del rng
  for bits in scene.sweep["bits"]:
    yield _changed(
      scene, {"bits": bits}, _rounded(scene.params, 2 ** (bits - 1) - 1.0)
    )


ATTACKS = {
  "fine_tune": Attack("fine-tuning", True, fine_tune),
  "fresh": Attack("fresh experts, all trained", True, fresh_experts),
  "fresh_alone": Attack(
    "fresh experts alone trained",
    True,
    functools.partial(fresh_experts, leaves=rf".*experts/{_FRESH}/.*"),
  ),
  "prompt": Attack("soft prompt, learned", True, soft_prompt),
  "steering": Attack(
    "steering vectors, learned",
    True,
    functools.partial(fine_tune, leaves=_BIASES),
    needs_many=True,
  ),
  "noise": Attack("weight noise", False, weight_noise),
  "prune": Attack("pruning", False, prune),
  "quantize": Attack("quantisation", False, quantize),
}


def _changed(scene: Scene, setting: Setting, params: Params) -> Attacked:
  return Attacked(setting, params, scene.module, scene.present)


@jax.jit
def _noisy(params: Params, size: float, rng: jax.Array) -> Params:
  leaves, treedef = jax.tree.flatten(params)
  rngs = jax.random.split(rng, len(leaves))
  drawn = [
    x + size * x.std() * jax.random.normal(r, x.shape)
    for x, r in zip(leaves, rngs, strict=True)
  ]
  return jax.tree.unflatten(treedef, drawn)


@jax.jit
def _pruned(params: Params, share: float) -> Params:
  def pruned(x: jax.Array) -> jax.Array:
    if x.ndim < 2:  # Biases and norms.
      return x
    return jnp.where(jnp.abs(x) < jnp.quantile(jnp.abs(x), share), 0, x)

  return jax.tree.map(pruned, params)


@jax.jit
def _rounded(params: Params, most: jax.Array) -> Params:
  def rounded(x: jax.Array) -> jax.Array:
    scale = jnp.maximum(jnp.abs(x).max(), 1e-12) / most
    return jnp.round(x / scale) * scale

  return jax.tree.map(rounded, params)


def _mask(params: Params, leaves: str) -> Params:
  """Return 1 for each leaf that is trained, 0 for the others."""
  flat = flatten_dict(params, sep="/")
  chosen = {p: float(bool(re.fullmatch(leaves, p))) for p in flat}
  return unflatten_dict(chosen, sep="/")


@functools.cache
def _tuned(
  module: nn.Module,
  present: tuple[tuple[str, bool], ...],
  steps: int,
  apart: int,
  batch_size: int,
) -> Any:
  """Return the compiled training of an attacker.

  It takes params, a mask, demonstrations, how many of these count, learning
  rates and a PRNG key, and returns the params of each rate after every `apart`
  steps: [rates, steps / apart, ...].
  """
  apply = tiers.authorize(dict(present), module.apply)
  adam = optax.scale_by_adam()

  def step(
    carry: Any, rng: jax.Array, demonstrations: Batch, count: Any, rate: Any
  ) -> tuple[Any, None]:
    params, mask, state = carry
    at = jax.random.randint(rng, (batch_size,), 0, count)
    batch = jax.tree.map(lambda x: x[at], demonstrations)
    grads = jax.grad(training.loss)(params, apply, batch)
    # Adam moves nothing whose gradients were always 0.
    grads = jax.tree.map(jnp.multiply, grads, mask)
    with jax.numpy_dtype_promotion("standard"):  # Optax counts in int32.
      updates, state = adam.update(grads, state)
    params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
    return (params, mask, state), None

  def run(
    params: Params,
    mask: Params,
    demonstrations: Batch,
    count: Any,
    rate: Any,
    rng: jax.Array,
  ) -> Params:
    def some(carry: Any, rngs: jax.Array) -> tuple[Any, Params]:
      each = functools.partial(
        step, demonstrations=demonstrations, count=count, rate=rate
      )
      carry, _ = jax.lax.scan(each, carry, rngs)
      return carry, carry[0]

    rngs = jax.random.split(rng, (steps // apart, apart))
    carry = params, mask, adam.init(params)
    return jax.lax.scan(some, carry, rngs)[1]

  return jax.jit(jax.vmap(run, (None, None, None, None, 0, None)))
