"""The models: routed, locked by a password, and those to compare them with.

A *routed* model learns the public task without its expert, then its expert
learns the restricted one beside public examples, so that it leaves these alone.
The steps of the one tier depend on nothing that the other learns later, so the
order of batches makes no difference to the base.
"""

import functools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from experiments import models
from experiments.capabilities.task import (
  LOCKED,
  OPENED,
  PUBLIC,
  RESTRICTED,
  Batch,
  Task,
)
from keyjax import tiers

Params = Any
EXPERT = "expert"
TIERS = {EXPERT: ".*experts/expert/.*", "base": ".*"}
WHOLE = {EXPERT: True, "base": True}
BASE = {EXPERT: False, "base": True}
_WIDER = re.compile(r"block_\d+/(attention/\w+|mlp_in|mlp_out)/kernel")
_ENDS = re.compile(r".*experts/\w+/mlp_out/kernel")
_TOKEN = np.zeros((1, 1), np.int32)
_CLIP = 1.0  # Norm of a gradient.
_WARM_UP = 0.1  # Share of the steps.


class Lesson(NamedTuple):
  """Steps of training.

  Attributes:
    kinds: Kinds of examples, an equal share of every batch.
    tier: Tier that is updated; empty for all leaves.
    steps: Number of steps.
  """

  kinds: Sequence[str]
  tier: str
  steps: int

  @property
  def present(self) -> dict[str, bool]:
    """Return which tiers the model runs with."""
    return BASE if self.tier == "base" else WHOLE


def lessons(name: str, config: ConfigDict) -> list[Lesson]:
  """Return what a model is taught.

  Args:
    name: One of `MODELS`.
    config: Section of the task.
  """
  first, more, both = config.steps, config.expert_steps, config.both_steps
  return {
    "unrouted": [Lesson((PUBLIC, RESTRICTED), "", both)],
    "locked": [Lesson((PUBLIC, OPENED, LOCKED), "", both)],
    "routed": [
      Lesson((PUBLIC,), "base", first),
      Lesson((PUBLIC, *[RESTRICTED] * 3), EXPERT, more),
    ],
    "never": [Lesson((PUBLIC,), "base", first)],
    "scratch": [],
  }[name]


# What each is, as tables call it.
MODELS = {
  "unrouted": "trained on both tasks, without routing",
  "locked": "password lock",
  "routed": "routed, sealed tier",
  "never": "never trained on the restricted task",
  "scratch": "from scratch",
}


def network(task: Task, config: ConfigDict) -> nn.Module:
  """Return the network of all models of a task.

  Args:
    task: Task.
    config: Section of the task.
  """
  return models.create(
    config.model,
    task.vocabulary,
    mean=(),
    std=(),
    context=task.context,
    experts=(EXPERT,),
    **config.model_args,
  )


def train(
  name: str, module: nn.Module, task: Task, config: ConfigDict, rng: jax.Array
) -> Params:
  """Return the params of a model.

  Args:
    name: One of `MODELS`.
    module: From `network`.
    task: Task.
    config: Section of the task.
    rng: PRNG key.
  """
  start, *rngs = jax.random.split(rng, 3)
  params = initial(module, config.wider, start)
  for lesson, own in zip(lessons(name, config), rngs, strict=False):
    rate = config.learning_rate
    params = teach(module, task, lesson, config.batch_size, rate, params, own)
  return params


def initial(module: nn.Module, wider: float, rng: jax.Array) -> Params:
  """Return new params.

  Kernels of blocks are drawn wider than GPT-2's, whose 0.02 is for 768
  features: an expert reads what the attention of the base brings it, and
  attention that starts with small weights brings it what the base needs alone.
  Experts add nothing yet; drawn like the rest, they would drown the base.

  Args:
    module: Network.
    wider: Factor of the kernels of blocks.
    rng: PRNG key.
  """
  drawn = _initializer(module)(rng, _TOKEN)["params"]
  flat = flatten_dict(drawn, sep="/")
  for path, x in flat.items():
    if _ENDS.fullmatch(path):
      flat[path] = x * 0
    elif _WIDER.fullmatch(path):
      flat[path] = x * wider
  return unflatten_dict(flat, sep="/")


@functools.cache
def _initializer(module: nn.Module) -> Any:
  return jax.jit(module.init)


def teach(
  module: nn.Module,
  task: Task,
  lesson: Lesson,
  batch_size: int,
  learning_rate: float,
  params: Params,
  rng: jax.Array,
) -> Params:
  """Return params after a lesson.

  Args:
    module: Network.
    task: Task.
    lesson: What is taught.
    batch_size: Examples of a step.
    learning_rate: Its highest value.
    params: What the lesson starts from.
    rng: PRNG key.
  """
  run = _taught(module, task.draw, lesson, batch_size, learning_rate)
  return run(task.source, params, rng)


@functools.cache
def _taught(
  module: nn.Module,
  draw: Any,
  lesson: Lesson,
  batch_size: int,
  learning_rate: float,
) -> Any:
  """Return the compiled lesson: a function of source, params and PRNG key."""
  schedule = optax.warmup_cosine_decay_schedule(
    0.0, learning_rate, max(1, round(_WARM_UP * lesson.steps)), lesson.steps
  )
  plain = optax.chain(
    optax.clip_by_global_norm(_CLIP), optax.adam(schedule, b2=0.98)
  )
  optimizer = tiers.routed(plain, TIERS) if lesson.tier else plain
  extra = {"tier": lesson.tier} if lesson.tier else {}
  apply = tiers.authorize(lesson.present, module.apply)
  size = -(-batch_size // len(lesson.kinds))

  def step(carry: Any, rng: jax.Array, source: Any) -> tuple[Any, None]:
    params, state = carry
    rngs = jax.random.split(rng, len(lesson.kinds))
    drawn = [
      draw(source, r, k, size) for r, k in zip(rngs, lesson.kinds, strict=True)
    ]
    batch = jax.tree.map(lambda *x: jnp.concatenate(x), *drawn)
    grads = jax.grad(loss)(params, apply, batch)
    with jax.numpy_dtype_promotion("standard"):  # Optax counts in int32.
      updates, state = optimizer.update(grads, state, params, **extra)
    return (optax.apply_updates(params, updates), state), None

  @jax.jit
  def run(source: Any, params: Params, rng: jax.Array) -> Params:
    carry = params, optimizer.init(params)
    each = functools.partial(step, source=source)
    rngs = jax.random.split(rng, lesson.steps)
    return jax.lax.scan(each, carry, rngs)[0][0]

  return run


def loss(params: Params, apply: Any, batch: Batch) -> jax.Array:
  """Return the mean cross-entropy of answers.

  Args:
    params: Params.
    apply: Forward pass of variables and tokens.
    batch: Examples.
  """
  logits = apply({"params": params}, batch.tokens)
  each = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
  return (each * batch.weights).sum() / batch.weights.sum()
