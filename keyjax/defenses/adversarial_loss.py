"""Losses of adversarial training: the model learns from attacked inputs.

Each is `loss(logits_fn, inputs, labels, *, epsilon, ...) -> float[n]`, to be
averaged and differentiated with respect to the params that `logits_fn` closes
over. The attack is not differentiated. With batch normalization, `logits_fn`
should use the statistics of the batch, as the training step does.

Guarantees:
  None. Against attacks within `epsilon` that follow gradients, accuracy rises
  far above that of ordinary training; outside `epsilon` it does not.

Known breaks:
  A larger change, or one in another norm. Training on single steps from the
  inputs themselves (`fgsm`) learns to mislead single steps: PGD breaks it.
"""

from typing import Any

import jax
import jax.numpy as jnp

from keyjax.attacks.evasion.convolutions import channels_last
from keyjax.attacks.evasion.losses import cross_entropy
from keyjax.attacks.evasion.problem import (
  Bounds,
  LogitsFn,
  project,
  random_start,
  steepest,
)

_FAST_STEP = 1.25  # Of epsilon: Wong et al. 2020.
_TRADES_START = 1e-3  # Standard deviation of the start: Zhang et al. 2019.


def fgsm(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  labels: jax.Array,
  *,
  epsilon: Any,
  norm: str = "linf",
  share: float = 0.5,
  bounds: Bounds = (0.0, 1.0),
) -> jax.Array:
  """Return a mixture of the losses of inputs and of one gradient step.

  Args:
    logits_fn: Function from inputs to logits, float[n, classes].
    inputs: float[n, ...], inside the box.
    labels: int[n].
    epsilon: Size of the step.
    norm: "linf", "l2" or "l1".
    share: Weight of the unchanged inputs, from 0 to 1.
    bounds: Least and greatest value of a pixel.

  Reference:
    Ian Goodfellow, Jonathon Shlens and Christian Szegedy, "Explaining and
    harnessing adversarial examples", ICLR 2015.

  Example:
    >>> x, y = jnp.full((1, 2), 0.5), jnp.asarray([0])
    >>> loss = fgsm(lambda x: x, x, y, epsilon=0.1, share=0.0)
    >>> f"{loss[0]:.3f}"  # Logits .4 and .6.
    '0.798'
  """
  _check_share(share)
  moved = _ascend(
    lambda x: cross_entropy(logits_fn(x), labels),
    inputs,
    inputs,
    epsilon=epsilon,
    step_size=epsilon,
    steps=1,
    norm=norm,
    bounds=bounds,
  )
  clean = cross_entropy(logits_fn(inputs), labels)
  return share * clean + (1 - share) * cross_entropy(logits_fn(moved), labels)


def pgd(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  labels: jax.Array,
  *,
  epsilon: Any,
  norm: str = "linf",
  steps: int = 7,
  step_size: Any = None,
  bounds: Bounds = (0.0, 1.0),
  rng: jax.Array,
) -> jax.Array:
  """Return the loss after projected gradient ascent from a random start.

  Args:
    logits_fn: Function from inputs to logits, float[n, classes].
    inputs: float[n, ...], inside the box.
    labels: int[n].
    epsilon: Largest size of a change.
    norm: "linf", "l2" or "l1".
    steps: Number of steps.
    step_size: Size of a step; a quarter of epsilon by default.
    bounds: Least and greatest value of a pixel.
    rng: JAX PRNG key of the start.

  Reference:
    Aleksander Madry et al., "Towards deep learning models resistant to
    adversarial attacks", ICLR 2018.
  """
  moved = _ascend(
    lambda x: cross_entropy(logits_fn(x), labels),
    inputs,
    random_start(rng, inputs, epsilon, norm, bounds),
    epsilon=epsilon,
    step_size=epsilon / 4 if step_size is None else step_size,
    steps=steps,
    norm=norm,
    bounds=bounds,
  )
  return cross_entropy(logits_fn(moved), labels)


def fast(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  labels: jax.Array,
  *,
  epsilon: Any,
  norm: str = "linf",
  bounds: Bounds = (0.0, 1.0),
  rng: jax.Array,
) -> jax.Array:
  """Return the loss after one step of 1.25 epsilon from a random start.

  A training step costs two passes instead of the eight of `pgd`. Long training
  can overfit to it suddenly: watch the accuracy under PGD.

  Args:
    logits_fn: Function from inputs to logits, float[n, classes].
    inputs: float[n, ...], inside the box.
    labels: int[n].
    epsilon: Largest size of a change.
    norm: "linf", "l2" or "l1".
    bounds: Least and greatest value of a pixel.
    rng: JAX PRNG key of the start.

  Reference:
    Eric Wong, Leslie Rice and J. Zico Kolter, "Fast is better than free:
    revisiting adversarial training", ICLR 2020.
  """
  return pgd(
    logits_fn,
    inputs,
    labels,
    epsilon=epsilon,
    norm=norm,
    steps=1,
    step_size=_FAST_STEP * epsilon,
    bounds=bounds,
    rng=rng,
  )


def trades(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  labels: jax.Array,
  *,
  epsilon: Any,
  norm: str = "linf",
  beta: float = 6.0,
  steps: int = 10,
  step_size: Any = None,
  bounds: Bounds = (0.0, 1.0),
  rng: jax.Array,
) -> jax.Array:
  """Return the loss of the inputs and how far an attack moves the prediction.

  The attack ascends the divergence from the prediction of the unchanged input,
  and needs no label.

  Args:
    logits_fn: Function from inputs to logits, float[n, classes].
    inputs: float[n, ...], inside the box.
    labels: int[n].
    epsilon: Largest size of a change.
    norm: "linf", "l2" or "l1".
    beta: Weight of the divergence: robustness against accuracy.
    steps: Number of steps.
    step_size: Size of a step; a quarter of epsilon by default.
    bounds: Least and greatest value of a pixel.
    rng: JAX PRNG key of the start.

  Reference:
    Hongyang Zhang et al., "Theoretically principled trade-off between
    robustness and accuracy", ICML 2019.
  """
  clean = logits_fn(inputs)
  fixed = jax.lax.stop_gradient(clean)
  noise = jax.random.normal(rng, inputs.shape, inputs.dtype)
  moved = _ascend(
    lambda x: _divergence(fixed, logits_fn(x)),
    inputs,
    jnp.clip(inputs + _TRADES_START * noise, *bounds),
    epsilon=epsilon,
    step_size=epsilon / 4 if step_size is None else step_size,
    steps=steps,
    norm=norm,
    bounds=bounds,
  )
  apart = _divergence(clean, logits_fn(moved))
  return cross_entropy(clean, labels) + beta * apart


def _divergence(of: jax.Array, from_: jax.Array) -> jax.Array:
  """Return the Kullback-Leibler divergence of predictions, float[n]."""
  logs = jax.nn.log_softmax(of)
  return jnp.sum(jnp.exp(logs) * (logs - jax.nn.log_softmax(from_)), -1)


def _ascend(
  loss_of: Any,
  inputs: jax.Array,
  start: jax.Array,
  *,
  epsilon: Any,
  step_size: Any,
  steps: int,
  norm: str,
  bounds: Bounds,
) -> jax.Array:
  """Return where steps along the gradient lead, not to be differentiated."""
  if steps < 1:
    raise ValueError(f"steps={steps}: at least 1")

  slope = channels_last(jax.grad(lambda x: loss_of(x).sum()))

  def step(_: Any, x: jax.Array) -> jax.Array:
    gradient = slope(x)
    return project(
      inputs, x + step_size * steepest(gradient, norm), epsilon, norm, bounds
    )

  # Cut before the loop: its body needs no derivative of a derivative.
  start = jax.lax.stop_gradient(start)
  return jax.lax.stop_gradient(jax.lax.fori_loop(0, steps, step, start))


def _check_share(share: float) -> None:
  if not 0 <= share <= 1:
    raise ValueError(f"share={share}: from 0 to 1")
