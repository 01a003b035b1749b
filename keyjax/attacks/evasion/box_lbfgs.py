"""L-BFGS inside the box: the attack that found adversarial inputs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from keyjax.attacks.evasion import losses
from keyjax.attacks.evasion.problem import (
  Bounds,
  Evasion,
  LogitsFn,
  as_float,
  check,
  misclassified,
  refuse_nan,
)

_UNBOUNDED = 1e10  # Upper end of c until a first success.
_DECREASE = 1e-4  # Share of the linear decrease that a step must reach: Armijo.
_HALVINGS = 20  # Of a step.
_CONVERGED = 1e-6  # Relative decrease at which a descent ends.


class _Point(NamedTuple):
  """One example's point, and what was computed there."""

  x: jax.Array
  distance: jax.Array
  value: jax.Array
  gradient: jax.Array
  success: jax.Array
  finite: jax.Array


class _Found(NamedTuple):
  best: jax.Array
  distance: jax.Array  # Infinite before a first success.
  queries: jax.Array
  finite: jax.Array


Evaluate = Callable[[jax.Array], _Point]


def lbfgs(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  labels: jax.Array,
  *,
  targets: jax.Array | None = None,
  steps: int = 1000,
  binary_search_steps: int = 9,
  initial_constant: float = 0.01,
  memory: int = 10,
  bounds: Bounds = (0.0, 1.0),
) -> Evasion:
  """Return near inputs in l2 that reach their targets: box-constrained L-BFGS.

  Minimises `|r|^2 + c cross_entropy(x + r, target)` with x + r inside the box,
  for the least c of a line search whose minimiser succeeds: c is multiplied by
  ten until one does, then bisected. Coordinates at an edge of the box that the
  gradient pushes outwards stay there; steps are projected on the box.

  The examples are independent problems: they run under `jax.vmap`, and
  logits_fn sees batches of one.

  Args:
    logits_fn: Function from inputs to logits.
    inputs: float[n, ...].
    labels: int[n].
    targets: int[n], the classes to reach; None for any wrong class, where the
      most likely one of the unchanged input is descended to.
    steps: Greatest number of steps for each c; a descent ends when its
      objective falls by less than a millionth.
    binary_search_steps: Number of values of c.
    initial_constant: First c.
    memory: Number of past steps that approximate the Hessian.
    bounds: Least and greatest value of a pixel.

  Returns:
    An `Evasion`.

  Raises:
    ValueError: If an argument is wrong, or a logit or gradient not finite.

  Reference:
    Christian Szegedy, Wojciech Zaremba, Ilya Sutskever, Joan Bruna, Dumitru
    Erhan, Ian Goodfellow and Rob Fergus, "Intriguing properties of neural
    networks", ICLR 2014.

  Example:
    >>> logits_fn = lambda x: (x - 0.4) @ jnp.asarray([[0.0, 3.0], [0.0, 4.0]])
    >>> found = lbfgs(logits_fn, jnp.asarray([[0.5, 0.5]]), jnp.asarray([1]))
    >>> found.success.tolist(), round(float(found.distance[0]), 2)
    ([True], 0.14)
  """
  check(logits_fn, inputs, labels, targets=targets, bounds=bounds)
  if min(steps, binary_search_steps, memory) < 1 or not initial_constant > 0:
    raise ValueError(
      f"steps {steps}, binary_search_steps {binary_search_steps}, memory "
      f"{memory}, initial_constant {initial_constant}: all must be above 0"
    )

  def attack(x: jax.Array, label: jax.Array, target: jax.Array) -> Evasion:
    goal = None if targets is None else target[None]
    logits = as_float(logits_fn(x[None]))
    if targets is None:
      masked = jnp.where(
        jnp.arange(logits.shape[-1]) == label, -jnp.inf, logits
      )
      target = masked[0].argmax()

    def evaluate(point: jax.Array, constant: jax.Array) -> _Point:
      def objective(point: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = as_float(logits_fn(point[None]))
        # Minus the cross-entropy of the target.
        rise = losses.cross_entropy(logits, label[None], target[None])[0]
        return jnp.square(point - x).sum() - constant * rise, logits

      grad_fn = jax.value_and_grad(objective, has_aux=True)
      (value, logits), gradient = grad_fn(point)
      return _Point(
        x=point,
        distance=jnp.sqrt(jnp.square(point - x).sum()),
        value=value,
        gradient=gradient,
        success=misclassified(logits, label[None], goal)[0],
        finite=jnp.isfinite(logits).all() & jnp.isfinite(gradient).all(),
      )

    def search_step(_: jax.Array, carry: tuple) -> tuple:
      constant, lower, upper, found = carry
      success, found = _descend(
        lambda point: evaluate(point, constant),
        x,
        found,
        steps=steps,
        memory=memory,
        bounds=bounds,
      )
      lower = jnp.where(success, lower, constant)
      upper = jnp.where(success, constant, upper)
      bracketed = upper < _UNBOUNDED
      constant = jnp.where(bracketed, (lower + upper) / 2, constant * 10)
      return constant, lower, upper, found

    solved = misclassified(logits, label[None], goal)[0]
    found = _Found(
      best=x,
      distance=jnp.where(solved, 0.0, jnp.inf).astype(x.dtype),
      queries=1 + _zero(solved),
      finite=jnp.isfinite(logits).all(),
    )
    zero = _zero(solved).astype(x.dtype)
    carry = (zero + initial_constant, zero, zero + _UNBOUNDED, found)
    carry = jax.lax.fori_loop(0, binary_search_steps, search_step, carry)
    found = carry[-1]
    return Evasion(
      inputs=found.best,
      success=jnp.isfinite(found.distance) & found.finite,
      distance=jnp.where(jnp.isfinite(found.distance), found.distance, 0),
      queries=found.queries,
      finite=found.finite,
    )

  goals = labels if targets is None else targets
  return refuse_nan(jax.vmap(attack)(inputs, labels, goals), "lbfgs")


class _Descent(NamedTuple):
  step: jax.Array
  point: _Point
  optimizer: Any
  active: jax.Array
  found: _Found


def _descend(
  evaluate: Evaluate,
  x: jax.Array,
  found: _Found,
  *,
  steps: int,
  memory: int,
  bounds: Bounds,
) -> tuple[jax.Array, _Found]:
  """Minimise one example's objective; return whether the minimiser succeeds."""
  optimizer = optax.scale_by_lbfgs(memory_size=memory)

  def step(state: _Descent) -> _Descent:
    point = state.point
    blocked = (point.x <= bounds[0]) & (point.gradient > 0)
    blocked |= (point.x >= bounds[1]) & (point.gradient < 0)
    gradient = jnp.where(blocked, 0, point.gradient)
    scaled, memorised = optimizer.update(gradient, state.optimizer, point.x)
    scaled = jnp.where(blocked, 0, scaled)
    # Curvature along the edge of the box can spoil the direction.
    downhill = (scaled * gradient).sum() > 0
    direction = -jnp.where(downhill, scaled, gradient)
    new, accepted, found = _line_search(
      evaluate, point, direction, state.found, bounds
    )
    scale = jnp.maximum(jnp.abs(point.value), jnp.abs(new.value))
    fell = point.value - new.value > _CONVERGED * scale
    return _Descent(
      step=state.step + 1,
      point=new,
      optimizer=memorised,
      active=accepted & fell,
      found=found,
    )

  point = evaluate(x)
  zero = _zero(point.success)
  state = jax.lax.while_loop(
    lambda state: (state.step < steps) & state.active,
    step,
    _Descent(
      step=zero,
      point=point,
      optimizer=jax.tree.map(
        lambda leaf: leaf + zero.astype(leaf.dtype), optimizer.init(x)
      ),
      active=point.finite & (found.distance > 0),
      found=_record(found, point),
    ),
  )
  return state.point.success, state.found


def _line_search(
  evaluate: Evaluate,
  point: _Point,
  direction: jax.Array,
  found: _Found,
  bounds: Bounds,
) -> tuple[_Point, jax.Array, _Found]:
  """Halve the step, projected on the box, until the objective falls."""

  def attempt(carry: tuple) -> tuple:
    halvings, length, _, _, found = carry
    new = evaluate(jnp.clip(point.x + length * direction, *bounds))
    slope = (point.gradient * (new.x - point.x)).sum()
    accepted = new.finite & (new.value <= point.value + _DECREASE * slope)
    kept = jax.tree.map(
      lambda new, old: jnp.where(accepted, new, old), new, point
    )
    return halvings + 1, length / 2, kept, accepted, _record(found, new)

  zero = _zero(point.success)
  carry = (
    zero,
    1 + zero.astype(point.value.dtype),
    point,
    zero > 0,
    found,
  )
  carry = jax.lax.while_loop(
    lambda carry: (carry[0] < _HALVINGS) & ~carry[3], attempt, carry
  )
  return carry[2:]


def _record(found: _Found, point: _Point) -> _Found:
  """Return what was found, with a point that was evaluated."""
  asked = found.distance > 0  # Else the unchanged input succeeds.
  closer = point.success & point.finite & (point.distance < found.distance)
  return _Found(
    best=jnp.where(closer, point.x, found.best),
    distance=jnp.where(closer, point.distance, found.distance),
    queries=found.queries + asked.astype(jnp.int32),
    finite=found.finite & (point.finite | ~asked),
  )


def _zero(known: jax.Array) -> jax.Array:
  """Return int32 0 with the sharding of a bool.

  JAX cannot carry literals under `jax.vmap` over an explicit mesh axis.
  """
  return known.astype(jnp.int32) * 0
