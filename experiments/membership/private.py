"""Groups of models that train with differential privacy, and their audit.

Each model draws Poisson batches of its own members, clips the gradient of each
example and adds noise, as `experiments.training.dp` does. Whether an example is
a member was decided by a coin of its own, so that one trained model audits its
training: jax-privacy's bound from one run (Steinke et al., "Privacy auditing
with one training run", 2023).
"""

import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

import keyjax
from keyjax import tasks
from keyjax.attacks import fit
from keyjax.attacks.privacy import procedures
from keyjax.defenses import private
from keyjax.defenses.private import gradients
from keyjax.scheme import ApplyFn

_MARGIN = 1.5  # Largest batch, in mean batches.
# Models for nobody's use, whose noise is drawn by the fast generator.
_NOISE = "jax"


def guarantee(
  members: np.ndarray,
  recipe: fit.Recipe,
  steps: int,
  *,
  epsilon: float,
  delta: float,
  clip: float,
) -> private.Guarantee:
  """Return what the training of each of these models guarantees.

  All models draw their members at one rate, that of `recipe.batch_size` of half
  of the pool, and spend what the one with the most members does.

  Args:
    members: bool[k, n], the training data of each model.
    recipe: How they are trained; its batch size is a mean.
    steps: Number of steps.
    epsilon: Largest epsilon.
    delta: Probability that the bound by epsilon does not hold.
    clip: Largest norm of an example's gradient.

  Raises:
    ValueError: If a number is out of range.
    KeyringError: If the extra `privacy` is not installed.
  """
  most = int(members.sum(1).max())
  training = private.Training(
    examples=most,
    batch_size=min(most, math.ceil(_rate(members, recipe) * most)),
    steps=steps,
    delta=delta,
    truncated_at=_largest(recipe),
  )
  noise = private.noise_multiplier(training, epsilon)
  return private.Guarantee(
    epsilon=private.epsilon(training, noise),
    noise_multiplier=noise,
    clipping_norm=clip,
    generator=_NOISE,
    training=training,
  )


def procedure(
  apply_fn: ApplyFn,
  members: np.ndarray,
  recipe: fit.Recipe,
  found: private.Guarantee,
  secret: keyjax.Secret,
) -> procedures.Procedure:
  """Return how a model trains that keeps a guarantee.

  Args:
    apply_fn: Forward pass of a model without batch statistics.
    members: bool[k, n], the training data of all models.
    recipe: Optimiser, mean batch size and learning rate.
    found: The guarantee. A noise multiplier of 0 breaks it.
    secret: Secret of the batches and the noise of these models alone.
  """
  update, start = fit.update(recipe)
  size, rate = _largest(recipe), _rate(members, recipe)
  noise = functools.partial(
    private.with_noise,
    clipping_norm=found.clipping_norm,
    noise_multiplier=found.noise_multiplier,
  )

  def loss_fn(variables: Any, example: Any) -> tuple[jax.Array, tuple[()]]:
    images, labels = example  # Of one example.
    return fit.cross_entropy(apply_fn(variables, images), labels), ()

  def step(
    params: Any, rest: Any, state: Any, data: Any, drawn: Any, *args: Any
  ) -> tuple[Any, Any, Any]:
    picked, words, i = drawn
    rng = jax.random.fold_in(
      jax.random.wrap_key_data(words, impl=gradients.GENERATORS[_NOISE]), i
    )
    variables = params if rest is None else {"params": params}
    total, _ = private.clipped_sum(
      loss_fn,
      variables,
      tasks.take(data, picked),
      picked >= 0,
      clipping_norm=found.clipping_norm,
    )
    if found.noise_multiplier:
      total = noise(total, rng)
    # By the mean size: the size of this batch would tell of an example.
    grads = jax.tree.map(lambda x: x / recipe.batch_size, total)
    own = grads if rest is None else grads["params"]
    params, state = update(params, own, state, *args)
    return params, rest, state

  def draw(number: int, own: np.ndarray) -> Iterator[Any]:
    mine = secret.child(str(number))
    rows = private.poisson_rows(
      len(own),
      rate * len(own),
      truncated_at=size,
      size=size,
      secret=mine.child("batches"),
    )
    rng = private.noise_rng(mine.child("noise"), _NOISE)
    words = np.asarray(jax.random.key_data(rng))
    for i in range(found.training.steps):
      at = rows(i)
      yield np.where(at < 0, -1, own[at]), words, np.int32(i)

  return procedures.Procedure(step, start, draw)


def bound(scores: Any, members: np.ndarray, delta: float) -> float:
  """Return an epsilon that a training exceeds, by what an attack found.

  Args:
    scores: float[n], greater for a member; NaN is below all others.
    members: bool[n], each decided by a coin of its own.
    delta: As in `guarantee`.

  Raises:
    KeyringError: If the extra `privacy` is not installed.

  Example:
    >>> members = np.arange(1000) % 2 > 0
    >>> bound(np.zeros(1000), members, 1e-4)
    0.0
    >>> bound(members * 1.0, members, 1e-4) > 3
    True
  """
  found = np.asarray(scores, np.float64)
  found = np.where(np.isnan(found), -np.inf, found)
  # Ranks, which are finite; the bound depends on the order alone.
  _, ranks = np.unique(found, return_inverse=True)
  return private.lower_bound(
    ranks[members], ranks[~members], delta, one_run=True
  )


def _largest(recipe: fit.Recipe) -> int:
  return math.ceil(_MARGIN * recipe.batch_size)


def _rate(members: np.ndarray, recipe: fit.Recipe) -> float:
  """Return the probability of a member to be in a batch, for all models."""
  return min(1.0, recipe.batch_size / (members.shape[1] / 2))
