"""Carlini and Wagner's l2 attack: Adam in tanh space, a search over c."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from keyjax.attacks.evasion import losses
from keyjax.attacks.evasion.convolutions import channels_last
from keyjax.attacks.evasion.problem import (
  Bounds,
  Evasion,
  LogitsFn,
  all_finite,
  as_float,
  check,
  choose,
  misclassified,
  refuse_nan,
  sizes,
)

_INSIDE = 0.999999  # Where atanh of the edges of the box is taken.
_UNBOUNDED = 1e10  # Upper end of c until a first success.
_PROGRESS = 0.9999  # A loss above this share of the last one is no progress.


class _Search(NamedTuple):
  constant: jax.Array
  lower: jax.Array
  upper: jax.Array
  best: jax.Array
  distance: jax.Array  # Of the best; infinite before a first success.
  queries: jax.Array
  finite: jax.Array


class _Descent(NamedTuple):
  step: jax.Array
  point: jax.Array  # In tanh space.
  optimizer: Any
  checked: jax.Array  # Loss at the last check of progress.
  active: jax.Array
  success: jax.Array
  search: _Search


def carlini_wagner(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  labels: jax.Array,
  *,
  targets: jax.Array | None = None,
  confidence: float = 0.0,
  steps: int = 10_000,
  binary_search_steps: int = 9,
  learning_rate: float = 0.01,
  initial_constant: float = 1e-3,
  abort_early: bool = True,
  bounds: Bounds = (0.0, 1.0),
) -> Evasion:
  """Return the nearest misclassified inputs in l2 that C&W's attack finds.

  Minimises `|x' - x|^2 + c max(z_y - max_{j != y} z_j + confidence, 0)`, or
  `max(max_{j != t} z_j - z_t + confidence, 0)` with targets, for the least c of
  a binary search that succeeds. x' is a + b tanh(w), which is inside the box.

  Args:
    logits_fn: Function from inputs to logits.
    inputs: float[n, ...].
    labels: int[n].
    targets: int[n], the classes to reach; None for any wrong class.
    confidence: Margin in logits by which a point must succeed: kappa.
    steps: Greatest number of steps of Adam for each c.
    binary_search_steps: Number of values of c. From 10 on, the last one is the
      least that succeeded, again.
    learning_rate: Learning rate of Adam.
    initial_constant: First c.
    abort_early: Whether an example's descent stops once its loss has fallen by
      less than 0.01 % over a tenth of the steps.
    bounds: Least and greatest value of a pixel.

  Returns:
    An `Evasion`; success includes the confidence.

  Raises:
    ValueError: If an argument is wrong, or a logit or gradient not finite.

  Reference:
    Nicholas Carlini and David Wagner, "Towards evaluating the robustness of
    neural networks", IEEE S&P 2017.

  Example:
    >>> logits_fn = lambda x: (x - 0.4) @ jnp.asarray([[0.0, 3.0], [0.0, 4.0]])
    >>> found = carlini_wagner(
    ...   logits_fn, jnp.asarray([[0.5, 0.5]]), jnp.asarray([1]), steps=200)
    >>> found.success.tolist(), round(float(found.distance[0]), 2)
    ([True], 0.14)
  """
  check(logits_fn, inputs, labels, targets=targets, bounds=bounds)
  if min(steps, binary_search_steps) < 1:
    raise ValueError(
      f"steps {steps}, binary_search_steps {binary_search_steps}: pass 1 or "
      "more"
    )
  if confidence < 0 or not min(learning_rate, initial_constant) > 0:
    raise ValueError(
      f"confidence {confidence}, learning_rate {learning_rate}, "
      f"initial_constant {initial_constant}: pass 0 or more, above 0, above 0"
    )
  found = _Attack(
    logits_fn=logits_fn,
    inputs=inputs,
    labels=labels,
    targets=targets,
    confidence=confidence,
    steps=steps,
    binary_search_steps=binary_search_steps,
    optimizer=optax.adam(learning_rate),
    abort_early=abort_early,
    bounds=bounds,
  ).run(initial_constant)
  return refuse_nan(found, "carlini_wagner")


class _Attack(NamedTuple):
  """The arguments of `carlini_wagner`, and its parts."""

  logits_fn: LogitsFn
  inputs: jax.Array
  labels: jax.Array
  targets: jax.Array | None
  confidence: float
  steps: int
  binary_search_steps: int
  optimizer: optax.GradientTransformation
  abort_early: bool
  bounds: Bounds

  def run(self, initial_constant: float) -> Evasion:
    """Search over c."""
    logits = as_float(self.logits_fn(self.inputs))
    solved = self._succeeds(logits)
    zero = jnp.zeros_like(solved, self.inputs.dtype)
    search = _Search(
      constant=jnp.full_like(zero, initial_constant),
      lower=zero,
      upper=jnp.full_like(zero, _UNBOUNDED),
      best=self.inputs,
      distance=jnp.where(solved, zero, jnp.inf),
      queries=jnp.ones_like(zero, jnp.int32),
      finite=all_finite(logits),
    )
    search = jax.lax.fori_loop(
      0,
      self.binary_search_steps,
      lambda index, search: self._search_step(index, search, ~solved),
      search,
    )
    success = jnp.isfinite(search.distance) & search.finite
    changed = jnp.clip(search.best, *self.bounds)
    changed = choose(success, changed, self.inputs)
    return Evasion(
      inputs=changed,
      success=success,
      distance=sizes(changed - self.inputs, "l2"),
      queries=search.queries,
      finite=search.finite,
    )

  def _search_step(
    self, index: jax.Array, search: _Search, active: jax.Array
  ) -> _Search:
    """Descend with each example's c, and choose its next one."""
    last = index == self.binary_search_steps - 1
    repeat = last & (self.binary_search_steps >= 10)
    constant = jnp.where(repeat, search.upper, search.constant)
    start = self._to_point(self.inputs)
    state = _Descent(
      step=jnp.int32(0),
      point=start,
      optimizer=self.optimizer.init(start),
      checked=jnp.full_like(constant, jnp.inf),
      active=active & search.finite,
      success=jnp.zeros_like(active),
      search=search._replace(constant=constant),
    )
    state = jax.lax.while_loop(
      lambda state: (state.step < self.steps) & state.active.any(),
      self._descend,
      state,
    )
    return _next_constant(state.search, state.success)

  def _descend(self, state: _Descent) -> _Descent:
    """Take a step of Adam, and record the points that it started from."""
    search, active = state.search, state.active
    objective = functools.partial(self._objective, constant=search.constant)

    def evaluate(point: jax.Array) -> tuple[Any, ...]:
      evaluated: Any = jax.vjp(objective, point, has_aux=True)
      loss, pull, (image, logits) = evaluated
      return loss, image, logits, *pull(jnp.ones_like(loss))

    found = channels_last(evaluate)(state.point)
    loss, image, logits, gradient = found
    with jax.numpy_dtype_promotion("standard"):  # Optax counts in int32.
      update, optimizer = self.optimizer.update(gradient, state.optimizer)
    finite = all_finite(logits, gradient)
    success = active & self._succeeds(logits)
    distance = sizes(image - self.inputs, "l2")
    closer = success & (distance < search.distance)
    checks = state.step % -(-self.steps // 10) == 0
    stuck = checks & self.abort_early & ~(loss <= _PROGRESS * state.checked)
    still = active & finite & ~stuck
    return _Descent(
      step=state.step + 1,
      point=choose(still, state.point + update, state.point),
      optimizer=optimizer,
      checked=jnp.where(checks, loss, state.checked),
      active=still,
      success=state.success | success,
      search=search._replace(
        best=choose(closer, image, search.best),
        distance=jnp.where(closer, distance, search.distance),
        queries=search.queries + active.astype(jnp.int32),
        finite=search.finite & (finite | ~active),
      ),
    )

  def _objective(self, point: jax.Array, constant: jax.Array) -> tuple:
    """Return float[n], and the images and logits of points."""
    image = self._to_image(point)
    logits = as_float(self.logits_fn(image))
    gap = self.confidence - losses.margin(logits, self.labels, self.targets)
    # The inputs as tanh has them, so that the first point is at distance 0.
    anchor = self._to_image(self._to_point(self.inputs))
    squared = jnp.square(image - anchor).sum(tuple(range(1, image.ndim)))
    return squared + constant * jnp.maximum(gap, 0), (image, logits)

  def _succeeds(self, logits: jax.Array) -> jax.Array:
    """Return whether examples succeed with the confidence, bool[n]."""
    targets = self.targets
    chosen = self.labels if targets is None else targets
    ahead = self.confidence * jax.nn.one_hot(
      chosen, logits.shape[-1], dtype=logits.dtype
    )
    logits = logits + ahead if targets is None else logits - ahead
    return misclassified(logits, self.labels, targets)

  def _to_point(self, image: jax.Array) -> jax.Array:
    low, high = self.bounds
    centred = (image - (high + low) / 2) / ((high - low) / 2)
    return jnp.arctanh(centred * _INSIDE)

  def _to_image(self, point: jax.Array) -> jax.Array:
    low, high = self.bounds
    return (high + low) / 2 + (high - low) / 2 * jnp.tanh(point)


def _next_constant(search: _Search, success: jax.Array) -> _Search:
  """Return the search with its next constants: halfway, or ten times more."""
  constant = search.constant
  upper = jnp.where(success, jnp.minimum(search.upper, constant), search.upper)
  lower = jnp.where(success, search.lower, jnp.maximum(search.lower, constant))
  bracketed = upper < _UNBOUNDED
  return search._replace(
    constant=jnp.where(bracketed, (lower + upper) / 2, constant * 10),
    lower=lower,
    upper=upper,
  )
