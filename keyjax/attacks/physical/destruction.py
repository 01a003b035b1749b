"""How many adversarial inputs a transformation destroys."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.arguments import describe
from keyjax.attacks.evasion import problem
from keyjax.attacks.evasion.problem import LogitsFn
from keyjax.attacks.evasion.wrappers import RandomTransform
from keyjax.attacks.intervals import clopper_pearson


class Destroyed(NamedTuple):
  """What became of each changed input.

  Attributes:
    adversarial: bool[n], whether the input is classified correctly and the
      changed one is misclassified.
    destroyed: bool[n], whether it is adversarial and is classified correctly
      once it is transformed.
    finite: bool[n], whether all logits were finite; where those of the input or
      of the changed one are not, it is not adversarial, and where those of the
      transformed one are not, it is not destroyed.
  """

  adversarial: jax.Array
  destroyed: jax.Array
  finite: jax.Array


class Destruction(NamedTuple):
  """A destruction rate.

  Attributes:
    rate: Share of the adversarial inputs that are destroyed.
    low: Lower end of its exact 95 % interval, over inputs.
    high: Upper end.
    adversarial: Number of adversarial inputs.
    destroyed: Number of those destroyed.
    finite: Number of all inputs whose logits were finite.
  """

  rate: float
  low: float
  high: float
  adversarial: int
  destroyed: int
  finite: int


def destroyed(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  changed: jax.Array,
  labels: jax.Array,
  transform: RandomTransform,
  rng: jax.Array,
) -> Destroyed:
  """Return which changed inputs are adversarial, and which are destroyed.

  Args:
    logits_fn: Function from inputs to logits.
    inputs: float[n, ...], before the attack.
    changed: float[n, ...], after it.
    labels: int[n].
    transform: Function of an rng and inputs to inputs, such as `photograph`.
    rng: PRNG key of the transform.

  Raises:
    ValueError: If an argument is wrong.

  Example:
    >>> found = destroyed(lambda x: x, jnp.asarray([[0.6, 0.5]]),
    ...   jnp.asarray([[0.4, 0.5]]), jnp.asarray([0]),
    ...   lambda rng, x: x + jnp.asarray([[0.2, 0.0]]), jax.random.key(0))
    >>> found.adversarial.tolist(), found.destroyed.tolist()
    ([True], [True])
  """
  problem.check(logits_fn, inputs, labels)
  if np.shape(changed) != np.shape(inputs):
    raise ValueError(
      f"changed is {describe(changed)}: pass the shape of the inputs, "
      f"{list(np.shape(inputs))}"
    )
  inputs, changed = jnp.asarray(inputs), jnp.asarray(changed)
  before, after, later = (
    problem.as_float(logits_fn(x))
    for x in (inputs, changed, transform(rng, changed))
  )
  adversarial = _right(before, labels) & problem.misclassified(after, labels)
  return Destroyed(
    adversarial=adversarial,
    destroyed=adversarial & _right(later, labels),
    finite=problem.all_finite(before, after, later),
  )


def destruction_rate(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  changed: jax.Array,
  labels: jax.Array,
  transform: RandomTransform,
  rng: jax.Array,
) -> Destruction:
  """Return the share of adversarial inputs that a transform destroys.

  With C(x) = 1 where x is classified as its label, and 0 elsewhere: the sum of
  C(x) (1 - C(x')) C(T(x')) over that of C(x) (1 - C(x')). Each input is
  transformed once. Logits that are not finite count against destruction: an
  input is not destroyed by a model that fails on its photo.

  Args:
    logits_fn: Function from inputs to logits.
    inputs: float[n, ...], before the attack.
    changed: float[n, ...], after it.
    labels: int[n].
    transform: Function of an rng and inputs to inputs, such as `photograph`.
    rng: PRNG key of the transform: another one than that of the attack, if that
      knew the transform.

  Raises:
    ValueError: If an argument is wrong, or no changed input is adversarial.

  Reference:
    Alexey Kurakin, Ian Goodfellow and Samy Bengio, "Adversarial examples in
    the physical world", ICLR workshop 2017.

  Example:
    >>> found = destruction_rate(lambda x: x, jnp.asarray([[0.6, 0.5]]),
    ...   jnp.asarray([[0.4, 0.5]]), jnp.asarray([0]),
    ...   lambda rng, x: x + jnp.asarray([[0.2, 0.0]]), jax.random.key(0))
    >>> found.rate, found.adversarial, round(found.low, 3)
    (1.0, 1, 0.025)
  """
  found = destroyed(logits_fn, inputs, changed, labels, transform, rng)
  total, hits, finite = (
    int(np.asarray(x).sum())
    for x in (found.adversarial, found.destroyed, found.finite)
  )
  if not total:
    raise ValueError(
      f"changed: none of {len(found.adversarial)} inputs is classified "
      "correctly before the change and misclassified after it; there is "
      "nothing to destroy"
    )
  low, high = clopper_pearson(hits, total)
  return Destruction(
    rate=hits / total,
    low=low,
    high=high,
    adversarial=total,
    destroyed=hits,
    finite=finite,
  )


def _right(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Return whether examples are classified as their labels, bool[n]."""
  return problem.misclassified(logits, labels, labels)
