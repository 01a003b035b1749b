"""APGD: projected gradient ascent that chooses its step sizes by itself.

Examples that succeed are kept as they are; once all have, the loop ends.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from keyjax.attacks.evasion import problem
from keyjax.attacks.evasion.auto_pgd_steps import (
  Found,
  Goal,
  Search,
  project,
  run,
)
from keyjax.attacks.evasion.problem import Bounds, Evasion, LogitsFn, Norm

_L1_RADII = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))  # Times epsilon; of the steps.


def apgd(
  logits_fn: Callable[..., jax.Array],
  inputs: jax.Array,
  labels: jax.Array,
  *,
  epsilon: Any,
  norm: Norm = "linf",
  steps: int = 100,
  restarts: int = 1,
  targets: jax.Array | None = None,
  loss: str = "cross_entropy",
  eot_iter: int = 1,
  randomized: bool = False,
  shrinking: bool = False,
  bounds: Bounds = (0.0, 1.0),
  rng: jax.Array,
) -> Evasion:
  """Change inputs by APGD.

  Args:
    logits_fn: Function from inputs to logits, float[n, classes]; from inputs
      and a PRNG key if `randomized`.
    inputs: float[n, ...].
    labels: int[n].
    epsilon: Largest size of the change.
    norm: "linf", "l2" or "l1".
    steps: Number of steps.
    restarts: Number of random starts.
    targets: int[n], the classes to reach; None for any wrong class.
    loss: "cross_entropy", "dlr", "targeted_dlr" or "margin".
    eot_iter: Number of gradients that are averaged at each point, for
      expectation over the randomness of a model.
    randomized: Whether logits_fn takes a PRNG key.
    shrinking: Search balls of 3, 2 and 1 epsilon in turn, as AutoAttack does
      for "l1".
    bounds: Least and greatest value of a pixel.
    rng: PRNG key, or one for each example.

  Returns:
    The result; where it failed, the inputs have the greatest loss found.

  Raises:
    ValueError: If an argument is wrong, or a gradient is not finite.

  Reference:
    Francesco Croce and Matthias Hein, "Reliable evaluation of adversarial
    robustness with an ensemble of diverse parameter-free attacks", ICML 2020;
    "Mind the box: l1-APGD for sparse adversarial attacks on image
    classifiers", ICML 2021.

  Example:
    >>> x, y = jnp.full((1, 2), 0.5), jnp.asarray([0])
    >>> rng = jax.random.key(0)
    >>> found = apgd(lambda x: 4 * x, x, y, epsilon=0.25, rng=rng)
    >>> bool(found.success[0]), bool(found.distance[0] <= 0.25 + 1e-6)
    (True, True)
  """
  search = Search(
    logits_fn=logits_fn,
    epsilon=epsilon,
    norm=norm,
    bounds=bounds,
    steps=steps,
    restarts=restarts,
    eot_iter=eot_iter,
    randomized=randomized,
    shrinking=shrinking,
    rng=problem.batch_rng(rng),
  )
  goal = Goal(loss, labels, targets, targets)
  inputs = _checked(search, inputs, goal)
  rngs = problem.example_rngs(rng, len(inputs), inputs)
  found, _ = _unchanged(search, goal, inputs)
  found = _restarts(search, goal, inputs, rngs, found)
  return _result("apgd", inputs, found, norm)


def apgd_targeted(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  labels: jax.Array,
  *,
  epsilon: Any,
  norm: Norm = "linf",
  steps: int = 100,
  restarts: int = 1,
  n_targets: int = 9,
  skip: Any = 0,
  shrinking: bool = False,
  bounds: Bounds = (0.0, 1.0),
  rng: jax.Array,
) -> Evasion:
  """Change inputs by APGD towards each of the likeliest wrong classes.

  Any wrong class is a success. The loss is "targeted_dlr".

  Args:
    logits_fn: Function from inputs to logits, float[n, classes].
    inputs: float[n, ...].
    labels: int[n].
    epsilon: Largest size of the change.
    norm: "linf", "l2" or "l1".
    steps: Number of steps for each class.
    restarts: Number of random starts for each class.
    n_targets: Number of wrong classes, the likeliest first; all if there are
      fewer.
    skip: Number of likeliest wrong classes to leave out, to run a few classes
      at a time and drop the examples that are done.
    shrinking: As of `apgd`.
    bounds: Least and greatest value of a pixel.
    rng: PRNG key, or one for each example.

  Returns:
    The result.

  Raises:
    ValueError: If an argument is wrong, or a gradient is not finite.

  Reference:
    As of `apgd`.
  """
  search = Search(
    logits_fn=logits_fn,
    epsilon=epsilon,
    norm=norm,
    bounds=bounds,
    steps=steps,
    restarts=restarts,
    eot_iter=1,
    randomized=False,
    shrinking=shrinking,
    rng=problem.batch_rng(rng),
  )
  # Labels stand in for targets, which the clean logits choose.
  inputs = _checked(search, inputs, Goal("targeted_dlr", labels, labels))
  rngs = problem.example_rngs(rng, len(inputs), inputs)
  found, logits = _unchanged(search, Goal("cross_entropy", labels), inputs)
  order = jnp.argsort(logits, axis=-1)[:, ::-1]  # Likeliest first.

  def attack(rank: jax.Array, found: Found) -> Found:
    rank = rank.astype(jnp.int32)
    at_rank = jnp.arange(order.shape[1], dtype=jnp.int32)[None] == rank
    target = jnp.where(at_rank, order, 0).sum(-1)
    goal = Goal("targeted_dlr", labels, target)
    own = jax.vmap(jax.random.fold_in, in_axes=(0, None))(rngs, rank)
    # Losses towards different classes do not compare: keep the last point.
    found = found._replace(value=jnp.full_like(found.value, -jnp.inf))
    return _restarts(search, goal, inputs, own, found)

  last = jnp.minimum(skip + n_targets, order.shape[1] - 1)
  found = jax.lax.fori_loop(skip + 1, last + 1, attack, found)
  return _result("apgd_targeted", inputs, found, norm)


def _checked(search: Search, inputs: jax.Array, goal: Goal) -> jax.Array:
  """Return the inputs as an array, or raise ValueError."""
  logits_fn = search.logits_fn
  if search.randomized:
    logits_fn = lambda x: search.logits_fn(x, jax.random.key(0))  # noqa: E731
  problem.check(
    logits_fn,
    inputs,
    goal.labels,
    epsilon=search.epsilon,
    norm=search.norm,
    targets=goal.targets,
    bounds=search.bounds,
  )
  for name in ("steps", "restarts", "eot_iter"):
    if getattr(search, name) < 1:
      raise ValueError(
        f"{name} is {getattr(search, name)}: at least 1 is needed"
      )
  jax.eval_shape(goal.value, jax.eval_shape(logits_fn, inputs))
  return jnp.asarray(inputs)


def _unchanged(
  search: Search, goal: Goal, inputs: jax.Array
) -> tuple[Found, jax.Array]:
  """Return the state before the first run, and the logits of the inputs."""
  arguments = (search.rng,) if search.randomized else ()
  logits = problem.as_float(search.logits_fn(inputs, *arguments))
  success = goal.reached(logits)
  found = Found(
    inputs=inputs,
    success=success,
    value=jnp.full_like(success, -jnp.inf, logits.dtype),
    queries=jnp.ones_like(success, jnp.int32),
    finite=problem.all_finite(logits),
  )
  return found, logits


def _restarts(
  search: Search,
  goal: Goal,
  inputs: jax.Array,
  rngs: jax.Array,
  found: Found,
) -> Found:
  """Return what was found after all random starts."""
  radii = _L1_RADII if search.shrinking else ((1.0, 1.0),)
  steps = [math.ceil(search.steps * share) for _, share in radii]
  steps[-1] = search.steps - sum(steps[:-1])

  def restart(i: jax.Array, found: Found) -> Found:
    own = jax.vmap(jax.random.fold_in, in_axes=(0, None))(rngs, i)
    largest = search._replace(epsilon=search.epsilon * radii[0][0])
    point = _random_start(largest, inputs, own)
    for number, (radius, _) in enumerate(radii):
      stage = search._replace(
        epsilon=search.epsilon * radius,
        steps=steps[number],
        rng=jax.random.fold_in(search.rng, len(radii) * i + number),
      )
      point = project(stage, inputs, point)
      point, found = run(
        stage,
        goal,
        inputs,
        point,
        found,
        fresh=not search.shrinking,
        counts=number == len(radii) - 1,
      )
    return found

  return jax.lax.fori_loop(0, search.restarts, restart, found)


def _random_start(
  search: Search, inputs: jax.Array, rngs: jax.Array
) -> jax.Array:
  """Return random points on the sphere, moved into the box."""

  def draw(rng: jax.Array, x: jax.Array) -> jax.Array:
    if search.norm == "linf":
      return jax.random.uniform(rng, x.shape, x.dtype, -1, 1)
    return jax.random.normal(rng, x.shape, x.dtype)

  delta = jax.vmap(draw)(rngs, inputs)
  if search.norm != "l1":  # l1: the nearest point of ball and box is sparse.
    length = problem.sizes(delta, search.norm)
    delta *= search.epsilon / problem.per_example(length, delta)
  return project(search, inputs, inputs + delta)


def _result(name: str, inputs: jax.Array, found: Found, norm: str) -> Evasion:
  result = Evasion(
    inputs=found.inputs,
    success=found.success,
    distance=problem.sizes(found.inputs - inputs, norm),
    queries=found.queries,
    finite=found.finite,
  )
  return problem.refuse_nan(result, name)
