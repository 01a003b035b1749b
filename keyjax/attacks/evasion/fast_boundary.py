"""FAB: the smallest change that crosses the decision boundary."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from keyjax.attacks.evasion import jacobian, losses, problem
from keyjax.attacks.evasion.hyperplanes import hyperplane
from keyjax.attacks.evasion.problem import Bounds, Evasion, LogitsFn, Norm

_TINY = 1e-12
_LEAST = 1e-8  # Of the lengths of two projections that are compared.
_ALPHA = 0.1  # Greatest pull towards the unchanged input.
_ETA = 1.05  # Overshoot of a projection.
_BETA = 0.9  # Share of a change that is kept after it succeeded.
_RADIUS = {"linf": 0.3, "l2": 1.0, "l1": 5.0}  # Of random restarts.
_DUAL = {"linf": "l1", "l2": "l2", "l1": "linf"}


class _Search(NamedTuple):
  """Settings and the examples."""

  logits_fn: LogitsFn
  inputs: jax.Array
  labels: jax.Array
  norm: str
  bounds: Bounds
  steps: int
  epsilon: Any


class _Best(NamedTuple):
  """Smallest changes so far; infinite distance where there is none."""

  inputs: jax.Array
  distance: jax.Array
  queries: jax.Array
  finite: jax.Array


def fab(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  labels: jax.Array,
  *,
  norm: Norm = "linf",
  epsilon: Any = None,
  steps: int = 100,
  restarts: int = 1,
  n_targets: int | None = 9,
  skip: Any = 0,
  bounds: Bounds = (0.0, 1.0),
  rng: jax.Array,
) -> Evasion:
  """Find small changes by projections on the linearised decision boundary.

  Any wrong class is a success.

  Args:
    logits_fn: Function from inputs to logits, float[n, classes].
    inputs: float[n, ...].
    labels: int[n].
    norm: Norm of the distance that is minimised, "linf", "l2" or "l1".
    epsilon: Distance that is small enough: an example that reaches it is done,
      and larger ones do not count as success. None to minimise to the end.
    steps: Number of steps for each start.
    restarts: Number of starts: the inputs, then random points around them.
    n_targets: FAB-T: aim at each of this many wrong classes, the likeliest
      first, or at all if there are fewer. None for FAB as first published,
      whose steps aim at the nearest class and need a gradient for each.
    skip: Number of likeliest wrong classes to leave out, to run a few classes
      at a time and drop the examples that are done.
    bounds: Least and greatest value of a pixel.
    rng: PRNG key, or one for each example.

  Returns:
    The result, with the unchanged inputs where it failed.

  Raises:
    ValueError: If an argument is wrong, or a gradient is not finite.

  Reference:
    Francesco Croce and Matthias Hein, "Minimally distorted adversarial examples
    with a fast adaptive boundary attack", ICML 2020.

  Example:
    >>> x, y = jnp.asarray([[0.75, 0.25]]), jnp.asarray([0])
    >>> rng = jax.random.key(0)
    >>> found = fab(lambda x: 4 * x, x, y, rng=rng)
    >>> bool(found.success[0]), round(float(found.distance[0]), 2)
    (True, 0.25)
  """
  problem.check(
    logits_fn, inputs, labels, epsilon=epsilon, norm=norm, bounds=bounds
  )
  given = {"steps": steps, "restarts": restarts, "n_targets": n_targets}
  for name, value in given.items():
    if value is not None and value < 1:
      raise ValueError(f"{name} is {value}: at least 1 is needed")
  inputs = jnp.asarray(inputs)
  search = _Search(logits_fn, inputs, labels, norm, bounds, steps, epsilon)
  rngs = problem.example_rngs(rng, len(inputs), inputs)
  logits = problem.as_float(logits_fn(inputs))
  already = problem.misclassified(logits, labels)
  best = _Best(
    inputs=inputs,
    distance=jnp.where(already, 0, jnp.inf).astype(inputs.dtype),
    queries=jnp.ones_like(already, jnp.int32),
    finite=problem.all_finite(logits),
  )
  order = jnp.argsort(logits, axis=-1)[:, ::-1]  # Likeliest first.
  first: Any = 0
  last: Any = 1
  if n_targets is not None:
    first, last = skip, jnp.minimum(skip + n_targets, order.shape[1] - 1)

  def attack(number: jax.Array, best: _Best) -> _Best:
    number = number.astype(jnp.int32)
    restart = number % restarts
    targets = None
    if n_targets is not None:
      classes = jnp.arange(order.shape[1], dtype=jnp.int32)
      at_rank = classes[None] == number // restarts + 1
      targets = jnp.where(at_rank, order, 0).sum(-1)
    own = jax.vmap(jax.random.fold_in, in_axes=(0, None))(rngs, number)
    start = jnp.where(restart > 0, _random_start(search, own), inputs)
    return _run(search, targets, start, best)

  best = jax.lax.fori_loop(first * restarts, last * restarts, attack, best)
  success = _done(search, best)
  result = Evasion(
    inputs=problem.choose(success, best.inputs, inputs),
    success=success,
    distance=jnp.where(success, best.distance, 0),
    queries=best.queries,
    finite=best.finite,
  )
  return problem.refuse_nan(result, "fab")


def _done(search: _Search, best: _Best) -> jax.Array:
  """Return whether an example needs no smaller change."""
  if search.epsilon is None:
    return jnp.isfinite(best.distance)
  return best.distance <= search.epsilon


def _random_start(search: _Search, rngs: jax.Array) -> jax.Array:
  """Return random points at half the radius, moved into the box."""

  def draw(rng: jax.Array, x: jax.Array) -> jax.Array:
    if search.norm == "linf":
      return jax.random.uniform(rng, x.shape, x.dtype, -1, 1)
    return jax.random.normal(rng, x.shape, x.dtype)

  radius = _RADIUS[search.norm] if search.epsilon is None else search.epsilon
  delta = jax.vmap(draw)(rngs, search.inputs)
  length = problem.per_example(problem.sizes(delta, search.norm), delta)
  return jnp.clip(search.inputs + radius / 2 * delta / length, *search.bounds)


def _run(
  search: _Search, targets: jax.Array | None, start: jax.Array, best: _Best
) -> _Best:
  """Return the smallest changes after one run."""

  def running(state: tuple[jax.Array, jax.Array, _Best]) -> jax.Array:
    done, _, best = state
    if search.epsilon is None:
      return done < search.steps
    return (done < search.steps) & ~_done(search, best).all()

  def step(
    state: tuple[jax.Array, jax.Array, _Best],
  ) -> tuple[jax.Array, jax.Array, _Best]:
    done, point, best = state
    gap, normal, finite = _boundary(search, targets, point)
    point = _towards(search, point, gap, normal)
    logits = problem.as_float(search.logits_fn(point))
    finite &= problem.all_finite(logits)
    success = problem.misclassified(logits, search.labels)
    distance = problem.sizes(point - search.inputs, search.norm)
    active = _active(search, best)
    better = active & success & (distance < best.distance)
    best = _Best(
      inputs=problem.choose(better, point, best.inputs),
      distance=jnp.where(better, distance, best.distance),
      queries=best.queries + 2 * active.astype(jnp.int32),
      finite=best.finite & (finite | ~active),
    )
    nearer = search.inputs + (point - search.inputs) * _BETA
    return done + 1, problem.choose(success, nearer, point), best

  state = (jnp.asarray(0), start, best)
  return jax.lax.while_loop(running, step, state)[2]


def _active(search: _Search, best: _Best) -> jax.Array:
  """Return the examples whose change should become smaller."""
  if search.epsilon is None:
    return best.distance > 0
  return ~_done(search, best)


def _boundary(
  search: _Search, targets: jax.Array | None, point: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Return the linearised boundary to the target, or to the nearest class.

  Returns:
    The logit of the other class minus that of the label, float[n]; its
    gradient; and whether both are finite.
  """
  if targets is None:
    value, logits, normal = _nearest_boundary(search, point)
  else:
    aims = targets

    def gap(logits: jax.Array) -> jax.Array:
      other = losses.logit_of(logits, aims)
      return other - losses.logit_of(logits, search.labels)

    value, logits, normal = problem.value_and_gradient(
      search.logits_fn, gap, point
    )
  finite = problem.all_finite(logits, normal)
  flat = jnp.zeros_like(normal)
  return value, problem.choose(finite, normal, flat), finite


def _nearest_boundary(
  search: _Search, point: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Return gap, logits and normal of the nearest linearised boundary."""
  n, classes = jax.eval_shape(search.logits_fn, point).shape
  each = jnp.eye(classes, dtype=jnp.float32)[:, None]
  each = jnp.broadcast_to(each, (classes, n, classes))
  logits, gradients = jacobian.gradients(search.logits_fn, point, each)

  def pick(mask: jax.Array) -> jax.Array:
    weights = mask.astype(point.dtype)
    return jnp.einsum("nc,cn...->n...", weights, gradients)

  own = losses.one_hot(logits, search.labels)
  label = losses.logit_of(logits, search.labels)
  gaps = logits - label[:, None]
  normals = gradients - pick(own)[None]
  lengths = jax.vmap(lambda x: problem.sizes(x, _DUAL[search.norm]))(normals)
  distances = jnp.where(own, jnp.inf, jnp.abs(gaps) / (lengths.T + _TINY))
  nearest = losses.one_hot(logits, distances.argmin(-1))
  gap = jnp.where(nearest, gaps, 0).sum(-1)
  return gap, logits, pick(nearest) - pick(own)


def _towards(
  search: _Search, point: jax.Array, gap: jax.Array, normal: jax.Array
) -> jax.Array:
  """Return points just behind the boundary, pulled towards the inputs."""
  inputs, norm = search.inputs, search.norm
  axes = tuple(range(1, point.ndim))
  gap_at_inputs = gap + (normal * (inputs - point)).sum(axes)
  here = hyperplane(point, normal, gap, norm, search.bounds)
  there = hyperplane(inputs, normal, gap_at_inputs, norm, search.bounds)
  size_here = jnp.maximum(problem.sizes(here, norm), _LEAST)
  size_there = jnp.maximum(problem.sizes(there, norm), _LEAST)
  alpha = jnp.minimum(size_here / (size_here + size_there), _ALPHA)
  alpha = problem.per_example(alpha, point)
  moved = (point + _ETA * here) * (1 - alpha)
  moved += (inputs + _ETA * there) * alpha
  return jnp.clip(moved, *search.bounds)
