"""Losses that attacks ascend: one value for each example, from its logits."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

_TINY = 1e-12


def cross_entropy(
  logits: jax.Array, labels: jax.Array, targets: jax.Array | None = None
) -> jax.Array:
  """Return the cross-entropy of the labels, or minus that of the targets.

  Args:
    logits: float[n, classes].
    labels: int[n].
    targets: int[n], the classes to reach; None for any wrong class.

  Example:
    >>> logits = jnp.asarray([[0.0, 0.0]])
    >>> round(float(cross_entropy(logits, jnp.asarray([0]))[0]), 3)
    0.693
  """
  logs = jax.nn.log_softmax(logits)
  return -logit_of(logs, labels) if targets is None else logit_of(logs, targets)


def margin(
  logits: jax.Array, labels: jax.Array, targets: jax.Array | None = None
) -> jax.Array:
  """Return how far the best wrong class, or the target, is ahead.

  Above 0 where the attack succeeds.

  Args:
    logits: float[n, classes].
    labels: int[n].
    targets: int[n], the classes to reach; None for any wrong class.

  Reference:
    Nicholas Carlini and David Wagner, "Towards evaluating the robustness of
    neural networks", IEEE S&P 2017.
  """
  if targets is None:
    return _best_other(logits, labels) - logit_of(logits, labels)
  return logit_of(logits, targets) - _best_other(logits, targets)


def dlr(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Return the difference of logits ratio, which no scale of logits changes.

  Args:
    logits: float[n, classes], at least 3 classes.
    labels: int[n].

  Raises:
    ValueError: If there are fewer than 3 classes.

  Reference:
    Francesco Croce and Matthias Hein, "Reliable evaluation of adversarial
    robustness with an ensemble of diverse parameter-free attacks", ICML 2020.
  """
  if logits.shape[-1] < 3:
    raise ValueError(f"dlr needs 3 classes; the model has {logits.shape[-1]}")
  first, third = _ranked(logits, 1), _ranked(logits, 3)
  return margin(logits, labels) / (first - third + _TINY)


def targeted_dlr(
  logits: jax.Array, labels: jax.Array, targets: jax.Array
) -> jax.Array:
  """Return the targeted difference of logits ratio.

  Args:
    logits: float[n, classes], at least 4 classes.
    labels: int[n].
    targets: int[n], the classes to reach.

  Raises:
    ValueError: If there are fewer than 4 classes.

  Reference:
    As of `dlr`.
  """
  if logits.shape[-1] < 4:
    raise ValueError(
      f"targeted_dlr needs 4 classes; the model has {logits.shape[-1]}"
    )
  gap = logit_of(logits, targets) - logit_of(logits, labels)
  below = (_ranked(logits, 3) + _ranked(logits, 4)) / 2
  return gap / (_ranked(logits, 1) - below + _TINY)


LOSSES: dict[str, Callable[..., jax.Array]] = {
  "cross_entropy": cross_entropy,
  "margin": margin,
  "dlr": dlr,
  "targeted_dlr": targeted_dlr,
}


def loss_of(
  name: str, labels: jax.Array, targets: jax.Array | None = None
) -> Callable[[jax.Array], jax.Array]:
  """Return a loss as a function of logits alone.

  Args:
    name: A name of `LOSSES`.
    labels: int[n].
    targets: int[n], the classes to reach; None for any wrong class.

  Raises:
    ValueError: If the loss is unknown, or is only for attacks with targets or
      only for those without.
  """
  if name not in LOSSES:
    raise ValueError(f"loss is {name!r}: choose from {', '.join(LOSSES)}")
  if name == "dlr" and targets is not None:
    raise ValueError("dlr has no targets: use targeted_dlr")
  if name == "targeted_dlr" and targets is None:
    raise ValueError("targeted_dlr needs targets")
  given = {} if targets is None else {"targets": targets}
  return functools.partial(LOSSES[name], labels=labels, **given)


def one_hot(logits: jax.Array, classes: jax.Array) -> jax.Array:
  """Return bool[n, classes], true at one class of each example."""
  # Comparisons and sums, not gathers: they keep any sharding over n.
  numbers = jnp.arange(logits.shape[-1], dtype=jnp.int32)
  return numbers[None] == classes.astype(jnp.int32)[:, None]


def logit_of(logits: jax.Array, classes: jax.Array) -> jax.Array:
  """Return the logit of one class of each example, float[n]."""
  return jnp.where(one_hot(logits, classes), logits, 0).sum(-1)


def _best_other(logits: jax.Array, classes: jax.Array) -> jax.Array:
  return jnp.where(one_hot(logits, classes), -jnp.inf, logits).max(-1)


def _ranked(logits: jax.Array, rank: int) -> jax.Array:
  """Return the logit of a rank, 1 for the greatest."""
  order = jnp.argsort(jax.lax.stop_gradient(logits), axis=-1)
  return logit_of(logits, order[:, -rank])
