"""Groups of models that train with dropout."""

import itertools
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from keyjax import tasks
from keyjax.attacks import fit
from keyjax.attacks.privacy import procedures
from keyjax.scheme import ApplyFn


def procedure(
  model: nn.Module, rate: float, recipe: fit.Recipe, size: int, seed: int
) -> procedures.Procedure:
  """Return how a model trains with dropout; its variables stay the same.

  Args:
    model: Linen module with a field `dropout`, without batch statistics.
    rate: Share of the units that a step leaves out.
    recipe: Optimiser and weight decay.
    size: Examples of a batch, at most the members of any model.
    seed: Seed of what is drawn, and of the orders.

  Raises:
    ValueError: If the model has no dropout.
  """
  if not hasattr(model, "dropout"):
    raise ValueError(
      f"privacy.trainings: a {type(model).__name__} has no dropout; choose "
      "model=mlp or cnn"
    )
  apply_fn: ApplyFn = model.clone(dropout=rate).apply
  update, start = fit.update(recipe)

  def step(
    params: Any, rest: Any, state: Any, data: Any, drawn: Any, *args: Any
  ) -> tuple[Any, Any, Any]:
    picked, words, i = drawn
    images, labels = tasks.take(data, picked)
    rng = jax.random.fold_in(jax.random.wrap_key_data(words), i)

    def loss_fn(params: Any) -> jax.Array:
      rngs = {"dropout": rng}
      logits = apply_fn({"params": params}, images, train=True, rngs=rngs)
      return fit.cross_entropy(logits, labels)

    params, state = update(params, jax.grad(loss_fn)(params), state, *args)
    return params, rest, state

  def draw(number: int, members: np.ndarray) -> Iterator[Any]:
    rng = jax.random.fold_in(jax.random.key(seed), number)
    words = np.asarray(jax.random.key_data(rng))
    order = procedures.batches(members, size, [seed, number])
    return zip(order, itertools.repeat(words), map(np.int32, itertools.count()))

  return procedures.Procedure(step, start, draw)
