"""Attacks along the gradient with a fixed step: FGSM, BIM, PGD."""

import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from keyjax.attacks.evasion import problem
from keyjax.attacks.evasion.losses import loss_of
from keyjax.attacks.evasion.problem import Bounds, Evasion, LogitsFn, Norm

_TINY = 1e-12
_SPARSITY = 0.01  # Share of coordinates that an l1 step changes.


class _Ascent(NamedTuple):
  """A loss to ascend inside a ball and a box."""

  logits_fn: LogitsFn
  loss: str
  labels: jax.Array
  targets: jax.Array | None
  epsilon: Any
  norm: str
  bounds: Bounds

  def value(self, logits: jax.Array) -> jax.Array:
    return loss_of(self.loss, self.labels, self.targets)(logits)

  def evaluate(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    return problem.value_and_gradient(self.logits_fn, self.value, x)

  def move(
    self, inputs: jax.Array, x: jax.Array, gradient: jax.Array, size: Any
  ) -> jax.Array:
    x += size * problem.steepest(gradient, self.norm, _SPARSITY)
    return problem.project(inputs, x, self.epsilon, self.norm, self.bounds)


class _Climb(NamedTuple):
  """How a climb goes; `keep` is "best" or "last"."""

  steps: int
  step_size: Any
  momentum: float
  keep: str


class _Best(NamedTuple):
  """Best points so far: a success, and among equals the greatest loss."""

  inputs: jax.Array
  value: jax.Array
  success: jax.Array
  finite: jax.Array


def fgsm(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  labels: jax.Array,
  *,
  epsilon: Any,
  norm: Norm = "linf",
  targets: jax.Array | None = None,
  loss: str = "cross_entropy",
  bounds: Bounds = (0.0, 1.0),
) -> Evasion:
  """Change inputs by one step: the fast gradient sign method.

  Args:
    logits_fn: Function from inputs to logits, float[n, classes].
    inputs: float[n, ...].
    labels: int[n].
    epsilon: Size of the step.
    norm: "linf", or the one-step attack of another norm.
    targets: int[n], the classes to reach; None for any wrong class.
    loss: Name of the loss to ascend, see `losses`.
    bounds: Least and greatest value of a pixel.

  Returns:
    The result; the queries are one gradient and one forward pass.

  Raises:
    ValueError: If an argument is wrong, or a gradient is not finite.

  Reference:
    Ian Goodfellow, Jonathon Shlens and Christian Szegedy, "Explaining and
    harnessing adversarial examples", ICLR 2015.

  Example:
    >>> x, y = jnp.full((1, 2), 0.5), jnp.asarray([0])
    >>> found = fgsm(lambda x: 4 * x, x, y, epsilon=0.25)
    >>> found.inputs.tolist(), bool(found.success[0])
    ([[0.25, 0.75]], True)
  """
  ascent = _Ascent(logits_fn, loss, labels, targets, epsilon, norm, bounds)
  inputs = _checked(ascent, inputs, steps=1)
  _, logits, gradient = ascent.evaluate(inputs)
  finite = problem.all_finite(logits, gradient)
  changed = ascent.move(inputs, inputs, gradient, epsilon)
  already = problem.misclassified(logits, labels, targets)
  changed = problem.choose(finite & ~already, changed, inputs)
  logits = problem.as_float(logits_fn(changed))
  best = _Best(
    inputs=changed,
    value=ascent.value(logits),
    success=problem.misclassified(logits, labels, targets),
    finite=finite & problem.all_finite(logits),
  )
  return _result("fgsm", inputs, best, norm, passes=2)


def bim(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  labels: jax.Array,
  *,
  epsilon: Any,
  norm: Norm = "linf",
  steps: int = 10,
  step_size: Any = None,
  momentum: float = 0.0,
  targets: jax.Array | None = None,
  loss: str = "cross_entropy",
  bounds: Bounds = (0.0, 1.0),
  keep: Literal["best", "last"] = "best",
) -> Evasion:
  """Change inputs by steps from the input itself: the basic iterative method.

  Args:
    logits_fn: Function from inputs to logits, float[n, classes].
    inputs: float[n, ...].
    labels: int[n].
    epsilon: Largest size of the change.
    norm: "linf", "l2" or "l1".
    steps: Number of steps.
    step_size: Size of a step; None for epsilon / steps.
    momentum: Decay of the sum of earlier gradients, each divided by its mean
      size. 0 is BIM, 1 is MI-FGSM as published.
    targets: int[n], the classes to reach; None for any wrong class.
    loss: Name of the loss to ascend, see `losses`.
    bounds: Least and greatest value of a pixel.
    keep: Return the best point on the way, or as published the last one.

  Returns:
    The result.

  Raises:
    ValueError: If an argument is wrong, or a gradient is not finite.

  Reference:
    Alexey Kurakin, Ian Goodfellow and Samy Bengio, "Adversarial examples in
    the physical world", ICLR workshop 2017. Momentum: Yinpeng Dong et al.,
    "Boosting adversarial attacks with momentum", CVPR 2018.

  Example:
    >>> x, y = jnp.full((1, 2), 0.5), jnp.asarray([0])
    >>> found = bim(lambda x: 4 * x, x, y, epsilon=0.25, momentum=1.0)
    >>> bool(found.success[0]), round(float(found.distance[0]), 3)
    (True, 0.25)
  """
  ascent = _Ascent(logits_fn, loss, labels, targets, epsilon, norm, bounds)
  inputs = _checked(ascent, inputs, steps)
  climb = _Climb(
    steps=steps,
    step_size=epsilon / steps if step_size is None else step_size,
    momentum=momentum,
    keep=keep,
  )
  best = _climb(ascent, climb, inputs, inputs, _unchanged(ascent, inputs))
  return _result("bim", inputs, best, norm, passes=steps + 2)


def pgd(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  labels: jax.Array,
  *,
  epsilon: Any,
  norm: Norm = "linf",
  steps: int = 40,
  step_size: Any = None,
  restarts: int = 1,
  targets: jax.Array | None = None,
  loss: str = "cross_entropy",
  bounds: Bounds = (0.0, 1.0),
  keep: Literal["best", "last"] = "best",
  rng: jax.Array,
) -> Evasion:
  """Change inputs by projected gradient descent from random starts.

  Args:
    logits_fn: Function from inputs to logits, float[n, classes].
    inputs: float[n, ...].
    labels: int[n].
    epsilon: Largest size of the change.
    norm: "linf", "l2" or "l1"; an l1 step changes the 1 % of the coordinates
      with the greatest gradients.
    steps: Number of steps.
    step_size: Size of a step; None for 2.5 epsilon / steps, with which each
      point of the ball can be reached from each start.
    restarts: Number of random starts; the best point of all is returned.
    targets: int[n], the classes to reach; None for any wrong class.
    loss: Name of the loss to ascend, see `losses`.
    bounds: Least and greatest value of a pixel.
    keep: Return the best point on the way, or as published the last one of the
      best start.
    rng: PRNG key, or one for each example.

  Returns:
    The result.

  Raises:
    ValueError: If an argument is wrong, or a gradient is not finite.

  Reference:
    Aleksander Madry et al., "Towards deep learning models resistant to
    adversarial attacks", ICLR 2018. Sparse steps: Florian Tramer and Dan
    Boneh, "Adversarial training and robustness for multiple perturbations",
    NeurIPS 2019.

  Example:
    >>> x, y = jnp.full((1, 2), 0.5), jnp.asarray([0])
    >>> rng = jax.random.key(0)
    >>> found = pgd(lambda x: 4 * x, x, y, epsilon=0.25, rng=rng)
    >>> round(float(found.distance[0]), 3), int(found.queries[0])
    (0.25, 42)
  """
  if restarts < 1:
    raise ValueError(f"restarts is {restarts}: at least 1 is needed")
  ascent = _Ascent(logits_fn, loss, labels, targets, epsilon, norm, bounds)
  inputs = _checked(ascent, inputs, steps)
  climb = _Climb(
    steps=steps,
    step_size=2.5 * epsilon / steps if step_size is None else step_size,
    momentum=0.0,
    keep=keep,
  )
  rngs = problem.example_rngs(rng, len(inputs), inputs)

  def restart(i: jax.Array, best: _Best) -> _Best:
    own = jax.vmap(jax.random.fold_in, in_axes=(0, None))(rngs, i)
    start = problem.random_start(own, inputs, epsilon, norm, bounds)
    return _climb(ascent, climb, inputs, start, best)

  best = jax.lax.fori_loop(0, restarts, restart, _unchanged(ascent, inputs))
  passes = 1 + restarts * (steps + 1)
  return _result("pgd", inputs, best, norm, passes=passes)


def _checked(ascent: _Ascent, inputs: jax.Array, steps: int) -> jax.Array:
  """Return the inputs as an array, or raise ValueError."""
  problem.check(
    ascent.logits_fn,
    inputs,
    ascent.labels,
    epsilon=ascent.epsilon,
    norm=ascent.norm,
    targets=ascent.targets,
    bounds=ascent.bounds,
  )
  loss_of(ascent.loss, ascent.labels, ascent.targets)
  if steps < 1:
    raise ValueError(f"steps is {steps}: at least 1 is needed")
  return jnp.asarray(inputs)


def _unchanged(ascent: _Ascent, inputs: jax.Array) -> _Best:
  """Return the state before the first point.

  Any other point is better, unless the input is misclassified as it is.
  """
  logits = problem.as_float(ascent.logits_fn(inputs))
  success = problem.misclassified(logits, ascent.labels, ascent.targets)
  return _Best(
    inputs=inputs,
    value=jnp.where(success, jnp.inf, -jnp.inf).astype(logits.dtype),
    success=success,
    finite=problem.all_finite(logits),
  )


def _climb(
  ascent: _Ascent,
  climb: _Climb,
  inputs: jax.Array,
  start: jax.Array,
  best: _Best,
) -> _Best:
  """Return the best of the earlier points and of those of one climb."""

  def step(_: jax.Array, state: tuple[Any, ...]) -> tuple[Any, ...]:
    changed, velocity, best = state
    value, logits, gradient = ascent.evaluate(changed)
    finite = problem.all_finite(logits, gradient)
    if climb.keep == "best":
      best = _better(ascent, best, changed, value, logits)
    best = best._replace(finite=best.finite & finite)
    gradient = problem.choose(finite, gradient, jnp.zeros_like(gradient))
    if climb.momentum:
      mean = problem.sizes(gradient, "l1") / math.prod(gradient.shape[1:])
      gradient /= problem.per_example(mean + _TINY, gradient)
      velocity = climb.momentum * velocity + gradient
      gradient = velocity
    changed = ascent.move(inputs, changed, gradient, climb.step_size)
    return changed, velocity, best

  state = (start, jnp.zeros_like(start), best)
  changed, _, best = jax.lax.fori_loop(0, climb.steps, step, state)
  logits = problem.as_float(ascent.logits_fn(changed))
  best = _better(ascent, best, changed, ascent.value(logits), logits)
  return best._replace(finite=best.finite & problem.all_finite(logits))


def _better(
  ascent: _Ascent,
  best: _Best,
  changed: jax.Array,
  value: jax.Array,
  logits: jax.Array,
) -> _Best:
  """Return the better points: successes, and among equals the greater loss."""
  success = problem.misclassified(logits, ascent.labels, ascent.targets)
  higher = (success == best.success) & (value > best.value)
  better = (success & ~best.success) | higher
  return best._replace(
    inputs=problem.choose(better, changed, best.inputs),
    value=jnp.where(better, value, best.value),
    success=success | best.success,
  )


def _result(
  name: str, inputs: jax.Array, best: _Best, norm: str, passes: int
) -> Evasion:
  found = Evasion(
    inputs=best.inputs,
    success=best.success,
    distance=problem.sizes(best.inputs - inputs, norm),
    queries=jnp.full_like(best.success, passes, jnp.int32),
    finite=best.finite,
  )
  return problem.refuse_nan(found, name)
