"""Square attack: random search with squares, by queries of logits alone."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.attacks.evasion import losses, problem, square_moves
from keyjax.attacks.evasion.problem import Bounds, Evasion, LogitsFn, Norm
from keyjax.attacks.evasion.square_moves import Ball

_SCHEDULED = 10_000  # Queries for which the schedule was published.
# Share of the image that a square covers is halved after these queries.
_HALVED = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


class _State(NamedTuple):
  """State of the random search."""

  done: jax.Array
  images: jax.Array
  value: jax.Array
  success: jax.Array
  queries: jax.Array
  finite: jax.Array


def square(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  labels: jax.Array,
  *,
  epsilon: Any,
  norm: Norm = "linf",
  n_queries: int = 5000,
  p_init: float = 0.8,
  rescale_schedule: bool = True,
  targets: jax.Array | None = None,
  start: jax.Array | None = None,
  window: tuple[Any, Any] | None = None,
  bounds: Bounds = (0.0, 1.0),
  rng: jax.Array,
) -> Evasion:
  """Change inputs by random squares, and keep each change that helps.

  Needs no gradient: it is the black-box part of AutoAttack. Ends once all
  examples succeed.

  Args:
    logits_fn: Function from inputs to logits, float[n, classes].
    inputs: float[n, h, w, c], float[n, h, w], or float[n, d], whose squares are
      single values.
    labels: int[n].
    epsilon: Largest size of the change.
    norm: "linf", "l2" or "l1".
    n_queries: Largest number of changes that are tried.
    p_init: Share of the image that the first squares cover.
    rescale_schedule: Shrink squares by the share of `n_queries` that is used,
      as published; AutoAttack does so by their number, as for 10,000.
    targets: int[n], the classes to reach; None for any wrong class.
    start: float[n, ...], the inputs that an earlier window returned.
    window: First query to try and the one after the last, to run some at a time
      and drop the examples that are done; those from 0 on ignore `start`.
    bounds: Least and greatest value of a pixel.
    rng: PRNG key, or one for each example.

  Returns:
    The result; where it failed, the inputs have the greatest margin found.

  Raises:
    ValueError: If an argument is wrong, or a logit is not finite.

  Reference:
    Maksym Andriushchenko et al., "Square attack: a query-efficient black-box
    adversarial attack via random search", ECCV 2020; l1 as in AutoAttack.

  Example:
    >>> x, y = jnp.full((1, 2), 0.5), jnp.asarray([0])
    >>> rng = jax.random.key(0)
    >>> found = square(lambda x: 4 * x, x, y, epsilon=0.25, rng=rng)
    >>> bool(found.success[0])
    True
  """
  problem.check(
    logits_fn,
    inputs,
    labels,
    epsilon=epsilon,
    norm=norm,
    targets=targets,
    bounds=bounds,
  )
  if n_queries < 1 or not 0 < p_init <= 1:
    raise ValueError(
      f"n_queries is {n_queries} and p_init {p_init}: pass at least 1, and a "
      "share of the image"
    )
  inputs = jnp.asarray(inputs)
  images = _as_images(inputs)

  def evaluate(images: jax.Array) -> tuple[jax.Array, ...]:
    logits = problem.as_float(logits_fn(images.reshape(inputs.shape)))
    success = problem.misclassified(logits, labels, targets)
    value = losses.margin(logits, labels, targets)
    return value, success, problem.all_finite(logits)

  ball = Ball(epsilon=epsilon, norm=norm, bounds=bounds)
  sides = _sides(images.shape, norm, n_queries, p_init, rescale_schedule)
  rngs = problem.example_rngs(rng, len(inputs), inputs)
  first = None if start is None else start.reshape(images.shape)
  window = (0, n_queries) if window is None else window
  state = _search(evaluate, ball, images, sides, rngs, first, window)
  found = state.images.reshape(inputs.shape)
  result = Evasion(
    inputs=found,
    success=state.success,
    distance=problem.sizes(found - inputs, norm),
    queries=state.queries,
    finite=state.finite,
  )
  return problem.refuse_nan(result, "square")


def _as_images(inputs: jax.Array) -> jax.Array:
  """Return inputs as [n, h, w, c]."""
  if inputs.ndim == 2:
    return inputs[:, None, :, None]
  if inputs.ndim == 3:
    return inputs[..., None]
  if inputs.ndim == 4:
    return inputs
  raise ValueError(
    f"square needs images, [n, h, w, c]; inputs have shape {inputs.shape}"
  )


def _sides(
  shape: tuple[int, ...],
  norm: str,
  n_queries: int,
  p_init: float,
  rescale_schedule: bool,
) -> np.ndarray:
  """Return the side of the square of each query."""
  done = np.arange(n_queries)
  if rescale_schedule:
    done = done * _SCHEDULED // n_queries
  halvings = (done[:, None] > np.asarray(_HALVED)).sum(-1)
  share = p_init / 2.0**halvings
  _, height, width, _ = shape
  side = np.round(np.sqrt(share * height * width)).astype(np.int32)
  if norm == "linf":
    side = np.maximum(side, 1)
  else:
    side = np.maximum(side, 3)
    side += side % 2 == 0
  return np.minimum(side, min(height, width))


def _search(
  evaluate: Callable[[jax.Array], tuple[jax.Array, ...]],
  ball: Ball,
  images: jax.Array,
  sides: np.ndarray,
  rngs: jax.Array,
  start: jax.Array | None,
  window: tuple[Any, Any],
) -> _State:
  """Return the state after the random search."""
  first, last = window
  move, entries = square_moves.mover(ball, images, sides)
  kinds = jnp.asarray(entries)

  def drawn(rngs: jax.Array, number: Any) -> jax.Array:
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(rngs, number)

  def running(state: _State) -> jax.Array:
    return (state.done < last) & ~state.success.all()

  def step(state: _State) -> _State:
    own = drawn(rngs, state.done + 1)
    tried = move(own, state.images, kinds[state.done])
    state = _better(evaluate, state, tried)
    return state._replace(done=state.done + 1)

  value, success, finite = evaluate(images)
  state = _State(
    done=jnp.asarray(first),
    images=images,
    value=jnp.full_like(value, -jnp.inf),  # Any start is better.
    success=success,
    queries=jnp.ones_like(success, jnp.int32),
    finite=finite,
  )
  stripes = square_moves.start(ball, images, drawn(rngs, 0))
  if start is not None:
    stripes = jnp.where(first == 0, stripes, start)
  state = _better(evaluate, state, stripes)
  return jax.lax.while_loop(running, step, state)


def _better(
  evaluate: Callable[[jax.Array], tuple[jax.Array, ...]],
  state: _State,
  tried: jax.Array,
) -> _State:
  """Return the state with the changes that raise the margin, or succeed."""
  value, success, finite = evaluate(tried)
  active = ~state.success
  better = active & ((value > state.value) | success)
  return state._replace(
    images=problem.choose(better, tried, state.images),
    value=jnp.where(better, value, state.value),
    success=state.success | success,
    queries=state.queries + active.astype(jnp.int32),
    finite=state.finite & (finite | ~active),
  )
