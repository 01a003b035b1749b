"""Right labels, wrong features: poison that collides with a target.

An input of one class is changed little, until a network's features of it are
those of a target of another class. Its label stays right for the eye. A victim
who trains a last layer on these features puts the boundary around the poison,
and the target with it.

Needs: the feature extractor, and that the victim does not retrain it. Cost: a
gradient for each step.

Reference:
  Ali Shafahi, W. Ronny Huang, Mahyar Najibi, Octavian Suciu, Christoph Studer,
  Tudor Dumitras and Tom Goldstein, "Poison frogs! Targeted clean-label
  poisoning attacks on neural networks", NeurIPS 2018, arXiv:1804.00792:
  algorithm 1, without the watermark.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from keyjax import labelled
from keyjax.arguments import require_function, whole_number

FeaturesFn = Callable[[jax.Array], jax.Array]


class Collided(NamedTuple):
  """Poison.

  Attributes:
    image: float32[n, ...], changed inputs.
    distance: float32[n], of their features to the target's.
    before: float32[n], the same before the change.
  """

  image: jax.Array
  distance: jax.Array
  before: jax.Array


def collide(
  features_fn: FeaturesFn,
  bases: Any,
  target: Any,
  *,
  beta: float = 0.25,
  learning_rate: float = 0.01,
  steps: int = 300,
  epsilon: float = 1.0,
  bounds: tuple[float, float] = (0.0, 1.0),
) -> Collided:
  """Move inputs until their features are a target's.

  Each step goes down the squared distance of features, and then towards the
  base by the proximal step of `beta |x - base|^2`.

  Args:
    features_fn: Function from inputs float[n, ...] to features float[n, f].
    bases: float[n, ...], inputs of the class that they seem to be of.
    target: float[...], the input to be misclassified.
    beta: Weight of the distance to the base; of features and inputs of other
      sizes scale it.
    learning_rate: Length of a step down the distance of features.
    steps: Number of steps.
    epsilon: Greatest change of a value; 1 does not bound it.
    bounds: Least and greatest value of an input.

  Raises:
    ValueError: If shapes or numbers are wrong, or features are not finite.
    TypeError: If features_fn is no function.

  Example:
    >>> found = collide(lambda x: 2 * x, [[0.0, 1.0]], [1.0, 1.0],
    ...   beta=0.01, learning_rate=0.1)
    >>> bool(found.distance[0] < 0.1 * found.before[0])
    True
  """
  require_function(features_fn, "collision: features_fn", "one of inputs")
  start = labelled.inputs(bases, name="bases")
  goal = labelled.inputs([target], name="target")
  if goal.shape[1:] != start.shape[1:]:
    raise ValueError(
      f"target has shape {list(goal.shape[1:])}: bases have "
      f"{list(start.shape[1:])}"
    )
  if beta < 0 or not learning_rate > 0 or not epsilon > 0:
    raise ValueError(
      f"beta={beta}, learning_rate={learning_rate}, epsilon={epsilon}: above "
      "0, beta 0 or more"
    )
  found = _collide(
    features_fn,
    whole_number(steps, "steps"),
    jnp.asarray(start),
    jnp.asarray(goal),
    jnp.asarray([beta, learning_rate, epsilon, *bounds], jnp.float32),
  )
  if not jnp.isfinite(found.distance).all():
    raise ValueError(
      f"features are not finite: learning_rate={learning_rate} may be too large"
    )
  return found


def _collide(
  features_fn: FeaturesFn,
  steps: int,
  bases: jax.Array,
  target: jax.Array,
  numbers: jax.Array,
) -> Collided:
  beta, rate, epsilon, low, high = numbers
  wanted = features_fn(target)

  def squares(x: jax.Array) -> jax.Array:
    return ((features_fn(x) - wanted) ** 2).sum(-1)

  slope = jax.grad(lambda x: squares(x).sum())
  least = jnp.maximum(bases - epsilon, low)
  most = jnp.minimum(bases + epsilon, high)

  def step(x: jax.Array, _: None) -> tuple[jax.Array, None]:
    forward = x - rate * slope(x)
    backward = (forward + rate * beta * bases) / (1 + rate * beta)
    return jnp.clip(backward, least, most), None

  found, _ = jax.lax.scan(step, bases, length=steps)
  return Collided(found, jnp.sqrt(squares(found)), jnp.sqrt(squares(bases)))
