"""What the audit of masked gradients runs: one program of a few attacks.

A pure function of arrays. `audit.judge` draws conclusions on the host.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from keyjax.attacks.evasion import losses, problem
from keyjax.attacks.evasion.gradient import fgsm, pgd
from keyjax.attacks.evasion.problem import Bounds, Evasion, LogitsFn, Norm
from keyjax.attacks.evasion.square_attack import square
from keyjax.attacks.evasion.wrappers import expectation

Model = Callable[..., jax.Array]
SCALED = "logits / "  # Begins the names of attacks on divided logits.


class Outcomes(NamedTuple):
  """What happened to n inputs.

  Attributes:
    flat: bool[n], whether the gradient of the cross-entropy is exactly zero
      at the input, or not finite there or on the way of plain PGD.
    broken: For each attack, bool[n], whether it got a wrong class. "clean" is
      no attack, "pgd" the plain one.
    moved: bool[n], whether two passes over what plain PGD found differ in the
      class.
  """

  flat: jax.Array
  broken: dict[str, jax.Array]
  moved: jax.Array


class _Task(NamedTuple):
  """A model with its inputs, and the ball of the attacks."""

  model: LogitsFn
  inputs: jax.Array
  labels: jax.Array
  epsilon: Any
  norm: Norm
  bounds: Bounds
  steps: int
  rng: jax.Array

  def hit(self, changed: jax.Array) -> jax.Array:
    return problem.misclassified(self.model(changed), self.labels)

  def climb(self, model: LogitsFn, loss: str = "cross_entropy") -> Evasion:
    """Return what PGD on a model finds."""
    return pgd(
      model,
      self.inputs,
      self.labels,
      epsilon=self.epsilon,
      norm=self.norm,
      steps=self.steps,
      loss=loss,
      bounds=self.bounds,
      rng=self.rng,
    )


def outcomes(
  logits_fn: Model,
  inputs: jax.Array,
  labels: jax.Array,
  *,
  epsilon: Any,
  norm: Norm = "linf",
  substitute_fn: LogitsFn | None = None,
  bound_epsilon: Any = None,
  bpda: Model | None = None,
  is_random: bool = False,
  steps: int = 40,
  n_queries: int = 500,
  noise_draws: int = 100,
  eot_draws: int = 16,
  temperatures: Sequence[float] = (10.0, 100.0, 1000.0),
  bounds: Bounds = (0.0, 1.0),
  rng: jax.Array,
) -> Outcomes:
  """Return what each attack of an audit breaks.

  Arguments are those of `audit.audit`. Works eagerly and under `jax.jit`, for
  which weights and keys may be arguments, as below: one compilation serves all,
  and no key is a constant of it. `audit_findings.judge` takes the result.

  Example:
    >>> x, y = jnp.asarray([[0.9, 0.1], [0.6, 0.4]]), jnp.asarray([0, 0])
    >>> @jax.jit
    ... def run(weight, rng):
    ...   return outcomes(lambda x: weight * x, x, y, epsilon=0.2, rng=rng)
    >>> found = run(4.0, jax.random.key(0))
    >>> found.broken["clean"].tolist(), found.broken["pgd"].tolist()
    ([False, False], [False, True])
  """
  if noise_draws < 1 or not min(temperatures, default=1) > 0:
    raise ValueError(
      f"noise_draws is {noise_draws}, temperatures are {temperatures}: at "
      "least 1, and above 0"
    )
  model = one_draw(logits_fn, is_random, rng)
  inputs = jnp.asarray(inputs)
  task = _Task(
    model=model,
    inputs=inputs,
    labels=labels,
    epsilon=jnp.asarray(epsilon, inputs.dtype),
    norm=norm,
    bounds=bounds,
    steps=steps,
    rng=jax.random.fold_in(rng, 1),
  )
  plain, broken = _scaled(task, temperatures)
  whole = bounds[1] - bounds[0] if bound_epsilon is None else bound_epsilon
  anywhere = task._replace(norm="linf", epsilon=whole)
  broken["unbounded"] = task.hit(anywhere.climb(model).inputs)
  broken |= _others(task, n_queries, noise_draws)
  if substitute_fn is not None:
    broken["transfer"] = task.hit(task.climb(substitute_fn).inputs)
  if bpda is not None:
    through = one_draw(bpda, is_random, rng)
    broken["bpda"] = task.hit(task.climb(through).inputs)
  if is_random:
    again, averaged = _next_draw(task, logits_fn, plain.inputs, eot_draws)
    broken |= averaged
  else:  # Noise of a fixed PRNG key depends on the place in the batch.
    again = jnp.flip(model(jnp.flip(plain.inputs, 0)), 0)
  moved = model(plain.inputs).argmax(-1) != again.argmax(-1)
  return Outcomes(_flat(task) | ~plain.finite, broken, moved)


def one_draw(logits_fn: Model, is_random: bool, rng: jax.Array) -> LogitsFn:
  """Return a model of inputs alone: one draw of a random one."""
  return (lambda x: logits_fn(x, rng)) if is_random else logits_fn


def _flat(task: _Task) -> jax.Array:
  """Return whether gradients at the inputs are of no use, bool[n]."""
  loss = losses.loss_of("cross_entropy", task.labels)
  _, logits, gradient = problem.value_and_gradient(
    task.model, loss, task.inputs
  )
  usable = problem.all_finite(logits, gradient)
  return ~usable | (problem.sizes(gradient, "linf") == 0)


def _scaled(
  task: _Task, temperatures: Sequence[float]
) -> tuple[Evasion, dict[str, jax.Array]]:
  """Return plain PGD's result, and the hits of PGD at each temperature."""
  names = ["pgd", *(f"{SCALED}{t:g}" for t in temperatures)]

  def one(temperature: jax.Array) -> Evasion:
    def cooled(x: jax.Array) -> jax.Array:
      logits = problem.as_float(task.model(x))
      return logits / temperature.astype(logits.dtype)

    return task.climb(cooled)

  found = jax.lax.map(one, jnp.asarray([1.0, *temperatures], jnp.float32))
  hits = [task.hit(x) for x in found.inputs]  # Of [temperatures, n, ...].
  plain = jax.tree.map(lambda x: x[0], found)
  return plain, dict(zip(names, hits, strict=True))


def _others(
  task: _Task, n_queries: int, noise_draws: int
) -> dict[str, jax.Array]:
  """Return the hits of all other attacks on the model itself."""
  given: dict[str, Any] = {
    "epsilon": task.epsilon,
    "norm": task.norm,
    "bounds": task.bounds,
  }
  data = (task.model, task.inputs, task.labels)
  classes = jax.eval_shape(task.model, task.inputs).shape[-1]
  ranked = ("margin", "dlr") if classes > 2 else ("margin",)
  random = square(*data, n_queries=n_queries, rng=task.rng, **given)
  return {
    "clean": task.hit(task.inputs),
    "fgsm": fgsm(*data, **given).success,
    **{x: task.hit(task.climb(task.model, x).inputs) for x in ranked},
    "square": random.success,
    "noise": _noise(task, noise_draws),
  }


def _noise(task: _Task, draws: int) -> jax.Array:
  """Return whether one of some random changes of full size is a success."""
  x, epsilon, norm = task.inputs, task.epsilon, task.norm
  rngs = problem.example_rngs(task.rng, len(x), x)

  def normal(rng: jax.Array, number: jax.Array, x: jax.Array) -> jax.Array:
    return jax.random.normal(jax.random.fold_in(rng, number), x.shape, x.dtype)

  def draw(number: jax.Array, hit: jax.Array) -> jax.Array:
    way = jax.vmap(normal, in_axes=(0, None, 0))(rngs, number, x)
    changed = x + epsilon * problem.steepest(way, norm)
    changed = problem.project(x, changed, epsilon, norm, task.bounds)
    return hit | task.hit(changed)

  hit: jax.Array = jax.lax.fori_loop(0, draws, draw, task.hit(x))
  return hit


def _next_draw(
  task: _Task, logits_fn: Model, plain: jax.Array, eot_draws: int
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Return another draw's logits of what was found, and hits under that draw.

  The hits are those of plain PGD, which saw the first draw, and of PGD on the
  mean of other draws.
  """
  later, averaged = (jax.random.fold_in(task.rng, i) for i in (2, 3))
  fresh = task._replace(model=one_draw(logits_fn, True, later))
  mean = expectation(
    lambda x: x,
    lambda rng, x: logits_fn(x, rng),
    draws=eot_draws,
    rng=averaged,
  )
  return fresh.model(plain), {
    "pgd_next_draw": fresh.hit(plain),
    "eot_next_draw": fresh.hit(task.climb(mean).inputs),
  }
