"""Examples whose gradient is the observed one, found by descent.

DLG, iDLG and Inverting Gradients are settings of one search; see `recipes`.
Each restart is a search from other random images; all run in one compiled call,
and the one with the gradient nearest to the observed one is returned, which an
attacker can tell.

Distances do not change if both gradients are scaled, and the cosine does not if
one is: clipping, which scales, hides nothing from it.

Sources: see the package.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.arguments import whole_number
from keyjax.attacks.privacy import signals
from keyjax.attacks.privacy.gradients import descent
from keyjax.attacks.privacy.gradients.observed import (
  GradientFn,
  check_observed,
)
from keyjax.attacks.privacy.gradients.recipes import INVERTING, Recipe
from keyjax.scheme import PyTree

_TINY = 1e-30


class Found(NamedTuple):
  """What a search found.

  Attributes:
    images: float32[b, ...].
    labels: int64[b]; the given ones if they were given.
    distance: Distance of their gradient to the observed one; 0 is exact.
    distances: float64[restarts], of all searches.
  """

  images: np.ndarray
  labels: np.ndarray
  distance: float
  distances: np.ndarray


def match(
  gradient_fn: GradientFn,
  variables: PyTree,
  observed: PyTree,
  shape: tuple[int, ...],
  rng: jax.Array,
  recipe: Recipe = INVERTING,
  *,
  classes: int,
  labels: Any = None,
  bounds: tuple[float, float] | None = None,
) -> Found:
  """Search images, and labels, whose gradient is the observed one.

  Args:
    gradient_fn: Function of variables, images and targets; one object for many
      calls, or each compiles again. Keys are in the variables.
    variables: Its first argument, such as the weights that were sent.
    observed: The gradient.
    shape: Shape of the batch of images, [b, ...].
    rng: JAX PRNG key of the starting points.
    recipe: How to search.
    classes: Number of classes.
    labels: int[b]; None to search them too, as DLG does.
    bounds: Least and greatest value of a pixel. Searches start inside, and Adam
      stays there; L-BFGS is free, and its images are clipped at the end.

  Raises:
    ValueError: If the gradient is not one of the function or not finite, a
      label is no class, a setting is wrong, or every search ends in NaN.

  Example:
    >>> from keyjax.attacks.privacy.gradients.observed import of_mean_loss
    >>> from keyjax.attacks.privacy.gradients.recipes import DLG
    >>> gradient_fn = of_mean_loss(lambda w, x: x @ w)
    >>> x, label = jnp.asarray([[0.25, 0.75]]), np.array([1])
    >>> w = jnp.zeros((2, 3))
    >>> seen = gradient_fn(w, x, jax.nn.one_hot(label, 3))
    >>> found = match(
    ...   gradient_fn, w, seen, (1, 2), jax.random.key(0), DLG, classes=3,
    ...   labels=label)
    >>> found.images.round(3).tolist()
    [[0.25, 0.75]]
  """
  recipe.check()
  low, high = signals.check_bounds(bounds)
  size = whole_number(shape[0] if shape else 0, "shape[0]")
  classes = whole_number(classes, "classes", least=2)
  observed = check_observed(gradient_fn, variables, observed, shape, classes)
  targets, known = np.zeros((size, classes), np.float32), labels is not None
  if known:
    labels = signals.check_labels(labels, (size, classes))
    targets[np.arange(size), labels] = 1
  rngs = jax.random.split(rng, recipe.restarts)
  with jax.numpy_dtype_promotion("standard"):  # Optax counts in int32.
    found, distances = _searches(
      gradient_fn,
      recipe,
      tuple(shape),
      (low, high),
      variables,
      observed,
      (jnp.asarray(targets), jnp.asarray(known)),
      rngs,
    )
  values = np.asarray(distances, np.float64)
  if not np.isfinite(values).any():
    raise ValueError(
      "the gradient of every image that was tried is NaN or infinite: the "
      "variables are not those of a working model"
    )
  best = int(np.nanargmin(np.where(np.isfinite(values), values, np.nan)))
  images = np.asarray(found["images"][best])
  if not known:
    labels = np.asarray(found["labels"][best].argmax(-1), np.int64)
  if bounds is not None:
    images = np.clip(images, low, high)
  return Found(images, labels, float(values[best]), values)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _searches(
  gradient_fn: GradientFn,
  recipe: Recipe,
  shape: tuple[int, ...],
  bounds: tuple[float, float],
  variables: PyTree,
  observed: PyTree,
  targets: tuple[jax.Array, jax.Array],
  rngs: jax.Array,
) -> tuple[PyTree, jax.Array]:
  """Return what each search found, and how far it is from the observed one.

  One program is for labels that are known, or not: `targets` is float32[b, c],
  and whether they are known.
  """
  given, known = targets

  def distance(point: PyTree) -> jax.Array:
    own = jnp.where(known, given, jax.nn.softmax(point["labels"]))
    gradient = gradient_fn(variables, point["images"], own)
    return _distance(recipe.distance, gradient, observed)

  def one(rng: jax.Array) -> tuple[PyTree, jax.Array]:
    other = jax.random.fold_in(rng, 1)
    point = {
      "images": _start(rng, shape, bounds),
      "labels": jax.random.normal(other, given.shape),
    }
    if recipe.optimizer == "adam":
      return descent.by_adam(recipe, distance, point, bounds)
    return descent.by_lbfgs(recipe, distance, point)

  return jax.vmap(one)(rngs)


def _start(
  rng: jax.Array, shape: tuple[int, ...], bounds: tuple[float, float]
) -> jax.Array:
  low, high = bounds
  if np.isfinite(low):
    return jax.random.uniform(rng, shape, minval=low, maxval=high)
  return jax.random.normal(rng, shape)


def _distance(name: str, gradient: PyTree, observed: PyTree) -> jax.Array:
  """Return a relative distance of two gradients, float32[]."""

  def dot(a: PyTree, b: PyTree) -> jax.Array:
    parts = jax.tree.map(lambda x, y: jnp.vdot(x, y), a, b)
    return jnp.asarray(sum(jax.tree.leaves(parts)))

  norm = dot(observed, observed)
  if name == "squared":
    apart = jax.tree.map(jnp.subtract, gradient, observed)
    return dot(apart, apart) / (norm + _TINY)
  own = dot(gradient, gradient)
  return 1 - dot(gradient, observed) / jnp.sqrt(own * norm + _TINY)
