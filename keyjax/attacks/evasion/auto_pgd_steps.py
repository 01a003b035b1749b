"""One run of APGD, from one start.

Settings are those of the authors' implementation, which AutoAttack uses.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.attacks.evasion import problem
from keyjax.attacks.evasion.losses import loss_of
from keyjax.attacks.evasion.problem import Bounds

_MOMENTUM = 0.75  # Weight of a new step against that of the last change.
_RHO = 0.75  # Share of rising steps up to which the step size is halved.
_L1_FRACTION = 0.2  # Share of the coordinates that the first l1 steps change.
_L1_DENSER = 1.5  # Changed coordinates by those of an l1 step.
_L1_SHRINK = 1.5  # Division of an l1 step at a checkpoint ...
_L1_LEAST = 10.0  # ... down to epsilon / 10.
_L1_SPARSER = 0.95  # Below this share of changed coordinates steps start again.


class Search(NamedTuple):
  """Settings of a search."""

  logits_fn: Callable[..., jax.Array]
  epsilon: Any
  norm: str
  bounds: Bounds
  steps: int
  restarts: int
  eot_iter: int
  randomized: bool
  shrinking: bool
  rng: jax.Array  # PRNG key of a random model.


class Goal(NamedTuple):
  """What to ascend, and what counts as success."""

  loss: str
  labels: jax.Array
  loss_targets: jax.Array | None = None
  targets: jax.Array | None = None  # Of success; None for any wrong class.

  def value(self, logits: jax.Array) -> jax.Array:
    """Return the loss, float[n]."""
    return loss_of(self.loss, self.labels, self.loss_targets)(logits)

  def reached(self, logits: jax.Array) -> jax.Array:
    """Return whether the attack succeeded, bool[n]."""
    return problem.misclassified(logits, self.labels, self.targets)


class Found(NamedTuple):
  """What all runs found: the point of a success, else that of most loss."""

  inputs: jax.Array
  success: jax.Array
  value: jax.Array
  queries: jax.Array
  finite: jax.Array


class _State(NamedTuple):
  """State of one run; all but `done` have an entry for each example."""

  done: jax.Array  # Steps.
  point: jax.Array
  previous: jax.Array
  gradient: jax.Array
  value: jax.Array
  step: jax.Array  # Its size.
  best_point: jax.Array
  best_gradient: jax.Array
  best_value: jax.Array
  rises: jax.Array  # Steps since the last checkpoint that raised the loss.
  checked_value: jax.Array  # Best loss at the last checkpoint.
  reduced: jax.Array  # Whether the last checkpoint halved the step.
  fraction: jax.Array  # l1: share of the coordinates that a step changes.
  changed: jax.Array  # l1: coordinates that differed at the last checkpoint.
  found: Found


def run(
  search: Search,
  goal: Goal,
  inputs: jax.Array,
  start: jax.Array,
  found: Found,
  *,
  fresh: bool,
  counts: bool,
) -> tuple[jax.Array, Found]:
  """Return the point of most loss, and what was found so far.

  Args:
    search: Settings.
    goal: What to ascend.
    inputs: float[n, ...].
    start: float[n, ...], inside ball and box.
    found: What earlier runs found.
    fresh: Whether start is random; otherwise it is the result of a run, which
      sets the sparsity of l1 steps.
    counts: Whether the ball is the one in which a success counts.
  """
  value, logits, gradient = evaluate(search, goal, start, search.rng)
  state = _State(
    done=jnp.asarray(0),
    point=start,
    previous=start,
    gradient=gradient,
    value=value,
    step=jnp.full_like(value, _largest_step(search)),
    best_point=start,
    best_gradient=gradient,
    best_value=jnp.where(jnp.isfinite(value), value, -jnp.inf),
    rises=jnp.zeros_like(value),
    checked_value=value,
    reduced=jnp.ones_like(value, bool),
    fraction=jnp.full_like(value, _L1_FRACTION),
    changed=jnp.full_like(value, _size(start)),
    found=found,
  )
  if not fresh:
    changed = _changed(inputs, start).astype(value.dtype)
    state = state._replace(
      fraction=changed / _size(start) / _L1_DENSER, changed=changed
    )
  windows = jnp.asarray(_windows(search.steps, search.norm), value.dtype)
  state = _seen(search, goal, state, logits, counts)

  def running(state: _State) -> jax.Array:
    return (state.done < search.steps) & ~state.found.success.all()

  def step(state: _State) -> _State:
    point = _moved(search, inputs, state)
    own = jax.random.fold_in(search.rng, state.done + 1)
    value, logits, gradient = evaluate(search, goal, point, own)
    state = state._replace(
      previous=state.point,
      point=point,
      gradient=gradient,
      value=value,
      rises=state.rises + (value > state.value).astype(value.dtype),
    )
    state = _seen(search, goal, state, logits, counts)
    state = _checkpoint(search, inputs, state, windows[state.done])
    return state._replace(done=state.done + 1)

  state = jax.lax.while_loop(running, step, state)
  found = state.found
  if counts:
    better = ~found.success & (state.best_value > found.value)
    found = found._replace(
      inputs=problem.choose(better, state.best_point, found.inputs),
      value=jnp.where(better, state.best_value, found.value),
    )
  return state.best_point, found


def evaluate(
  search: Search, goal: Goal, point: jax.Array, rng: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Return loss, logits and gradient; random models: the mean gradient."""
  if not search.randomized:
    return problem.value_and_gradient(search.logits_fn, goal.value, point)

  def draw(total: jax.Array, rng: jax.Array) -> tuple[jax.Array, Any]:
    value, logits, gradient = problem.value_and_gradient(
      lambda x: search.logits_fn(x, rng), goal.value, point
    )
    return total + gradient, (value, logits)

  rngs = jax.random.split(rng, search.eot_iter)
  total, drawn = jax.lax.scan(draw, jnp.zeros_like(point), rngs)
  value, logits = jax.tree.map(lambda x: x[-1], drawn)
  return value, logits, total / search.eot_iter


def _largest_step(search: Search) -> Any:
  return search.epsilon * (1 if search.norm == "l1" else 2)


def _windows(steps: int, norm: str) -> np.ndarray:
  """Return for each step the steps since the last checkpoint; 0 for none."""
  windows = np.zeros(steps, np.int32)
  if norm == "l1":
    window = max(int(0.04 * steps), 1)
    windows[window - 1 :: window] = window
    return windows
  window = max(int(0.22 * steps), 1)
  least, shorter = max(int(0.06 * steps), 1), max(int(0.03 * steps), 1)
  last = window - 1
  while last < steps:
    windows[last] = window
    window = max(window - shorter, least)
    last += window
  return windows


def _moved(search: Search, inputs: jax.Array, state: _State) -> jax.Array:
  """Return the next points."""
  direction = problem.steepest(state.gradient, search.norm, state.fraction)
  step = problem.per_example(state.step, direction)
  ahead = project(search, inputs, state.point + step * direction)
  if search.norm == "l1":
    return ahead
  weight = jnp.where(state.done > 0, _MOMENTUM, 1.0).astype(ahead.dtype)
  change = state.point - state.previous
  ahead = state.point + (ahead - state.point) * weight + change * (1 - weight)
  return project(search, inputs, ahead)


def _seen(
  search: Search,
  goal: Goal,
  state: _State,
  logits: jax.Array,
  counts: bool,
) -> _State:
  """Record new points: successes, and the greatest loss of the run."""
  finite = problem.all_finite(logits, state.gradient)
  flat = jnp.zeros_like(state.gradient)
  state = state._replace(gradient=problem.choose(finite, state.gradient, flat))
  found = state.found
  success = goal.reached(logits) & ~found.success
  if not counts:
    success = jnp.zeros_like(success)
  # Points after a success do not count, and their gradients may be wild.
  active = ~found.success
  found = found._replace(
    inputs=problem.choose(success, state.point, found.inputs),
    success=found.success | success,
    queries=found.queries + search.eot_iter * active.astype(jnp.int32),
    finite=found.finite & (finite | ~active),
  )
  better = state.value > state.best_value
  return state._replace(
    best_point=problem.choose(better, state.point, state.best_point),
    best_gradient=problem.choose(better, state.gradient, state.best_gradient),
    best_value=jnp.where(better, state.value, state.best_value),
    found=found,
  )


def _checkpoint(
  search: Search, inputs: jax.Array, state: _State, window: jax.Array
) -> _State:
  """Adapt the steps, and resume from the best point, if window is not 0."""
  if search.norm == "l1":
    changed = _changed(inputs, state.best_point).astype(state.changed.dtype)
    again = changed < _L1_SPARSER * state.changed
    largest = _largest_step(search)
    smaller = jnp.maximum(state.step / _L1_SHRINK, largest / _L1_LEAST)
    adapted = state._replace(
      step=jnp.where(again, largest, smaller),
      fraction=changed / _size(inputs) / _L1_DENSER,
      changed=changed,
    )
  else:
    oscillates = state.rises <= _RHO * window
    stuck = ~state.reduced & (state.checked_value >= state.best_value)
    again = oscillates | stuck
    adapted = state._replace(
      step=jnp.where(again, state.step / 2, state.step),
      reduced=again,
      checked_value=state.best_value,
      rises=jnp.zeros_like(state.rises),
    )
  adapted = adapted._replace(
    point=problem.choose(again, state.best_point, state.point),
    gradient=problem.choose(again, state.best_gradient, state.gradient),
  )
  return jax.tree.map(
    lambda new, old: jnp.where(window > 0, new, old), adapted, state
  )


def _size(x: jax.Array) -> int:
  """Return the number of coordinates of an example."""
  return math.prod(x.shape[1:])


def _changed(inputs: jax.Array, point: jax.Array) -> jax.Array:
  return (point != inputs).sum(tuple(range(1, inputs.ndim)))


def project(search: Search, inputs: jax.Array, x: jax.Array) -> jax.Array:
  """Return points moved into the ball and the box of a search."""
  return problem.project(inputs, x, search.epsilon, search.norm, search.bounds)
