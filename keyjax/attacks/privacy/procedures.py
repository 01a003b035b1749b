"""How one of many models trains: by what steps, and on what batches."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from keyjax import tasks
from keyjax.attacks import fit
from keyjax.scheme import ApplyFn, PyTree
from keyjax.tasks.task import Loss


class Procedure(NamedTuple):
  """How one model trains, where it is not as `fit` does; it is mapped.

  Attributes:
    step: Function `(params, rest, state, data, drawn, mask, rate) -> (params,
      rest, state)`, one step on what was drawn of the data.
    start: Function from params to the first state.
    draw: Function from the number of a model and its members, int[m], to an
      iterator over steps of arrays of one shape, which `step` gets.
  """

  step: Callable[..., Any]
  start: Callable[..., Any]
  draw: Callable[[int, np.ndarray], Iterator[Any]]


def by_fit(
  apply_fn: ApplyFn,
  init: Callable[[jax.Array], PyTree],
  recipe: fit.Recipe,
  size: int,
  seed: int,
  loss: Loss | None,
) -> Procedure:
  """Return the steps of `fit`, on batches of one's own members.

  Args:
    apply_fn: Forward pass.
    init: Function from a PRNG key to the initial variables.
    recipe: Settings of training.
    size: Examples of a batch, at most the members of any model.
    seed: Seed of the orders.
    loss: Loss of outputs and labels; by default cross-entropy.
  """
  fresh = jax.eval_shape(init, jax.random.key(0))
  collections = fit.split_collections(fresh)[1] is not None
  step, start = _steps_of_fit(
    apply_fn, recipe, collections, loss or fit.cross_entropy
  )

  def draw(number: int, members: np.ndarray) -> Iterator[np.ndarray]:
    return batches(members, size, [seed, number])

  return Procedure(step, start, draw)


@functools.lru_cache(maxsize=8)
def _steps_of_fit(
  apply_fn: ApplyFn, recipe: fit.Recipe, collections: bool, loss: Loss
) -> tuple[Callable[..., Any], Callable[..., Any]]:
  step, start = fit.compiled_step(apply_fn, recipe, collections, loss)

  def one(
    params: Any, rest: Any, state: Any, data: Any, drawn: Any, *args: Any
  ) -> Any:
    return step(params, rest, state, tasks.take(data, drawn), *args)

  return one, start


def batches(
  members: np.ndarray, size: int, seed: Sequence[int]
) -> Iterator[np.ndarray]:
  """Yield batches of one model's members, in the order in which `fit` would.

  Args:
    members: int[m], the members.
    size: Examples of a batch.
    seed: Seed of the order.
  """
  own = members.astype(np.int32)
  order = np.random.default_rng(seed)
  left = np.zeros(0, np.int64)
  while True:
    if len(left) < size:
      left = order.permutation(len(own))
    picked, left = left[:size], left[size:]
    yield own[picked]
