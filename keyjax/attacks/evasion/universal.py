"""Universal perturbations: one change that fools a model on most inputs."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from keyjax.attacks.evasion import checks, deep_fool, losses
from keyjax.attacks.evasion.problem import (
  Bounds,
  LogitsFn,
  check,
  project,
  steepest,
  value_and_gradient,
)

_NORMS = ("linf", "l2")
_ANYWHERE = (-jnp.inf, jnp.inf)  # A perturbation has no box.


class Universal(NamedTuple):
  """One perturbation for all inputs.

  Attributes:
    perturbation: float[...], of the shape of one input.
    fooling_rate: Share of the given inputs whose predicted class it changes.
    queries: Number of forward passes over one example; one with its gradient
      counts as one.
    finite: Whether all logits and gradients on the way were finite.
  """

  perturbation: jax.Array
  fooling_rate: jax.Array
  queries: jax.Array
  finite: jax.Array


class _Pass(NamedTuple):
  epoch: jax.Array
  perturbation: jax.Array
  rate: jax.Array
  queries: jax.Array
  finite: jax.Array


def fooling_rate(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  perturbation: jax.Array,
  *,
  bounds: Bounds = (0.0, 1.0),
) -> jax.Array:
  """Return the share of inputs whose predicted class a perturbation changes.

  With another model or other inputs than those that it was made for, this is
  how well it transfers.

  Args:
    logits_fn: Function from inputs to logits.
    inputs: float[n, ...].
    perturbation: float[...], of the shape of one input.
    bounds: Least and greatest value of a pixel: changed inputs are clipped.

  Example:
    >>> inputs = jnp.asarray([[0.1, 0.2], [0.9, 0.2]])
    >>> fooling_rate(lambda x: x, inputs, jnp.asarray([0.3, 0.0])).tolist()
    0.5
  """
  plain = logits_fn(inputs).argmax(-1)
  changed = jnp.clip(inputs + perturbation[None], *bounds)
  return (logits_fn(changed).argmax(-1) != plain).mean(dtype=inputs.dtype)


def universal_deepfool(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  *,
  epsilon: float,
  norm: str = "linf",
  wanted_rate: float = 0.8,
  epochs: int = 10,
  steps: int = 10,
  overshoot: float = 0.02,
  candidates: int | None = 10,
  bounds: Bounds = (0.0, 1.0),
  rng: jax.Array,
) -> Universal:
  """Return a universal perturbation made of DeepFool's steps, as published.

  Takes the inputs one by one, in random order. If the perturbation does not
  change an input's class yet, it adds the step of DeepFool that does, and
  projects the sum onto the ball. It ends after the epoch that reaches the
  wanted rate. The inputs depend on each other by design: shard none of them.

  Args:
    logits_fn: Function from inputs to logits.
    inputs: float[n, ...].
    epsilon: Greatest size of the perturbation.
    norm: "linf" or "l2", for the ball and for DeepFool.
    wanted_rate: Fooling rate to reach: 1 - delta of the paper.
    epochs: Greatest number of passes over the inputs.
    steps: Greatest number of DeepFool's steps for an input.
    overshoot: Overshoot of DeepFool.
    candidates: Number of classes that DeepFool compares; None for all.
    bounds: Least and greatest value of a pixel: changed inputs are clipped.
    rng: PRNG key of the order.

  Returns:
    A `Universal`.

  Raises:
    ValueError: If an argument is wrong, or a logit or gradient not finite.

  Reference:
    Seyed-Mohsen Moosavi-Dezfooli, Alhussein Fawzi, Omar Fawzi and Pascal
    Frossard, "Universal adversarial perturbations", CVPR 2017.

  Example:
    >>> inputs = jnp.asarray([[0.6, 0.5], [0.7, 0.5]])
    >>> found = universal_deepfool(lambda x: x, inputs, epsilon=0.2,
    ...   rng=jax.random.key(0))
    >>> found.fooling_rate.tolist()
    1.0
  """
  n = len(inputs)
  _check(logits_fn, inputs, jnp.zeros(n, jnp.int32), epsilon, norm, bounds)
  if min(epochs, steps) < 1 or not 0 < wanted_rate <= 1:
    raise ValueError(
      f"epochs {epochs}, steps {steps}, wanted_rate {wanted_rate}: pass 1 or "
      "more, 1 or more, and above 0 to 1"
    )
  inputs = jnp.asarray(inputs)
  plain = logits_fn(inputs).argmax(-1)
  zero = jnp.zeros_like(inputs[0])

  def add(carry: tuple, index: jax.Array) -> tuple[tuple, None]:
    perturbation, queries, finite = carry
    moved = jnp.clip(inputs[index] + perturbation, *bounds)
    found = deep_fool.search(
      logits_fn,
      moved[None],
      plain[index][None],
      norm=norm,
      steps=steps,
      overshoot=overshoot,
      candidates=candidates,
      bounds=bounds,
    )
    longer = perturbation + found.inputs[0] - moved
    projected = project(zero[None], longer[None], epsilon, norm, _ANYWHERE)[0]
    queries += found.queries[0]
    return (projected, queries, finite & found.finite[0]), None

  def epoch(state: _Pass) -> _Pass:
    order = jax.random.permutation(jax.random.fold_in(rng, state.epoch), n)
    carry = (state.perturbation, state.queries, state.finite)
    (perturbation, queries, finite), _ = jax.lax.scan(add, carry, order)
    return _Pass(
      epoch=state.epoch + 1,
      perturbation=perturbation,
      rate=fooling_rate(logits_fn, inputs, perturbation, bounds=bounds),
      queries=queries + n,
      finite=finite,
    )

  state = jax.lax.while_loop(
    lambda state: (state.epoch < epochs) & (state.rate < wanted_rate),
    epoch,
    _Pass(
      epoch=jnp.int32(0),
      perturbation=zero,
      rate=jnp.zeros((), inputs.dtype),
      queries=jnp.int32(n),
      finite=jnp.bool_(True),
    ),
  )
  found = Universal(
    perturbation=state.perturbation,
    fooling_rate=state.rate,
    queries=state.queries,
    finite=state.finite,
  )
  return _refuse_nan(found, "universal_deepfool")


def universal_sgd(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  labels: jax.Array,
  *,
  epsilon: float,
  norm: str = "linf",
  epochs: int = 10,
  batch_size: int = 128,
  step_size: float | None = None,
  clip: float = 9.0,
  bounds: Bounds = (0.0, 1.0),
  rng: jax.Array,
) -> Universal:
  """Return a universal perturbation by stochastic gradient ascent: SGD-UAP.

  Ascends the mean over a batch of min(cross-entropy, clip), by steps of a fixed
  size (signs for "linf"), and projects onto the ball. The clip keeps a few
  inputs from dominating. The inputs depend on each other by design.

  Args:
    logits_fn: Function from inputs to logits.
    inputs: float[n, ...].
    labels: int[n].
    epsilon: Greatest size of the perturbation.
    norm: "linf" or "l2".
    epochs: Number of passes over the inputs, each in a random order. What is
      left over after whole batches waits for another epoch.
    batch_size: Inputs of a step; all of them, in their order, if n or more.
    step_size: Size of a step; epsilon / 10 by default.
    clip: Greatest loss of an input: beta of the paper.
    bounds: Least and greatest value of a pixel: changed inputs are clipped.
    rng: PRNG key of the order.

  Returns:
    A `Universal`.

  Raises:
    ValueError: If an argument is wrong, or a logit or gradient not finite.

  Reference:
    Ali Shafahi, Mahyar Najibi, Zheng Xu, John Dickerson, Larry S. Davis and Tom
    Goldstein, "Universal adversarial training", AAAI 2020.

  Example:
    >>> inputs = jnp.asarray([[0.6, 0.5], [0.7, 0.5]])
    >>> found = universal_sgd(lambda x: x, inputs, jnp.asarray([0, 0]),
    ...   epsilon=0.2, rng=jax.random.key(0))
    >>> jnp.sign(found.perturbation).tolist(), found.fooling_rate.tolist()
    ([-1.0, 1.0], 1.0)
  """
  _check(logits_fn, inputs, labels, epsilon, norm, bounds)
  step_size = epsilon / 10 if step_size is None else step_size
  if min(epochs, batch_size) < 1 or not min(step_size, clip) > 0:
    raise ValueError(
      f"epochs {epochs}, batch_size {batch_size}, step_size {step_size}, clip "
      f"{clip}: all must be above 0"
    )
  inputs, labels = jnp.asarray(inputs), jnp.asarray(labels)
  n = len(inputs)
  size = min(batch_size, n)
  batches = n // size
  zero = jnp.zeros_like(inputs[0])

  def ascend(
    carry: tuple, batch: jax.Array, classes: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    perturbation, finite = carry

    def loss(logits: jax.Array) -> jax.Array:
      return jnp.minimum(losses.cross_entropy(logits, classes), clip) / size

    # The gradient of the perturbation is the sum of those of the inputs; it is
    # 0 where the box stops an input.
    moved = batch + perturbation[None]
    inside = (moved >= bounds[0]) & (moved <= bounds[1])
    _, logits, slopes = value_and_gradient(
      logits_fn, loss, jnp.clip(moved, *bounds)
    )
    slope = jnp.where(inside, slopes, 0).sum(0)
    moved = perturbation + step_size * steepest(slope[None], norm)[0]
    finite &= jnp.isfinite(logits).all() & jnp.isfinite(slope).all()
    return project(zero[None], moved[None], epsilon, norm, _ANYWHERE)[0], finite

  def epoch(index: jax.Array, carry: tuple) -> tuple:
    if batches == 1 and size == n:
      return ascend(carry, inputs, labels)
    order = jax.random.permutation(jax.random.fold_in(rng, index), n)
    order = order[: batches * size].reshape(batches, size)

    def step(carry: tuple, rows: jax.Array) -> tuple[tuple, None]:
      return ascend(carry, inputs[rows], labels[rows]), None

    return jax.lax.scan(step, carry, order)[0]

  carry = (zero, jnp.bool_(True))
  perturbation, finite = jax.lax.fori_loop(0, epochs, epoch, carry)
  found = Universal(
    perturbation=perturbation,
    fooling_rate=fooling_rate(logits_fn, inputs, perturbation, bounds=bounds),
    queries=jnp.int32(epochs * batches * size + 2 * n),
    finite=finite,
  )
  return _refuse_nan(found, "universal_sgd")


def _check(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  labels: jax.Array,
  epsilon: float,
  norm: str,
  bounds: Bounds,
) -> None:
  check(
    logits_fn,
    inputs,
    labels,
    epsilon=epsilon,
    norm=norm,
    norms=_NORMS,
    bounds=bounds,
  )


def _refuse_nan(found: Universal, name: str) -> Universal:
  finite = checks.concrete(found.finite)
  if finite is not None and not finite:
    raise ValueError(f"{name}: logits or gradients were NaN or infinite")
  return found
