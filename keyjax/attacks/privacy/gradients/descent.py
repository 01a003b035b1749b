"""Descent to a gradient: Adam and L-BFGS, which keep the best point so far."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from keyjax.attacks.privacy.gradients.recipes import Recipe
from keyjax.scheme import PyTree

_DECAYS = (3 / 8, 5 / 8, 7 / 8)  # Of the steps; Adam's rate falls to a tenth.


def by_adam(
  recipe: Recipe,
  distance: Callable[[PyTree], jax.Array],
  point: PyTree,
  bounds: tuple[float, float],
) -> tuple[PyTree, jax.Array]:
  """Descend with Adam, inside bounds.

  Args:
    recipe: How to search.
    distance: Function of a point.
    point: Where to start: images, and logits of labels.
    bounds: Least and greatest pixel.

  Returns:
    The best point, and its distance.
  """
  marks = {round(share * recipe.steps): 0.1 for share in _DECAYS}
  rule = optax.adam(optax.piecewise_constant_schedule(recipe.rate, marks))

  def loss_fn(point: PyTree) -> tuple[jax.Array, jax.Array]:
    apart = distance(point)
    return apart + recipe.variation * _variation(point["images"]), apart

  def step(carry: Any, _: Any) -> tuple[Any, None]:
    point, state, best = carry
    grads, apart = jax.grad(loss_fn, has_aux=True)(point)
    best = _better(best, point, apart)
    if recipe.signed:
      grads = jax.tree.map(jnp.sign, grads)
    updates, state = rule.update(grads, state, point)
    point = optax.apply_updates(point, updates)
    point = point | {"images": jnp.clip(point["images"], *bounds)}
    return (point, state, best), None

  best = (point, jnp.float32(jnp.inf))
  start = (point, rule.init(point), best)
  (point, _, best), _ = jax.lax.scan(step, start, length=recipe.steps)
  return _better(best, point, distance(point))


def by_lbfgs(
  recipe: Recipe,
  distance: Callable[[PyTree], jax.Array],
  point: PyTree,
) -> tuple[PyTree, jax.Array]:
  """Descend with L-BFGS; see `by_adam`."""
  # No bounds: a step to the border would undo what the curvature tells.
  rule = optax.lbfgs()

  def loss_fn(point: PyTree) -> jax.Array:
    return distance(point) + recipe.variation * _variation(point["images"])

  value_and_grad = optax.value_and_grad_from_state(loss_fn)

  def step(carry: Any, _: Any) -> tuple[Any, None]:
    point, state, best = carry
    value, grads = value_and_grad(point, state=state)
    best = _better(best, point, value)
    updates, state = rule.update(
      grads, state, point, value=value, grad=grads, value_fn=loss_fn
    )
    return (optax.apply_updates(point, updates), state, best), None

  best = (point, jnp.float32(jnp.inf))
  start = (point, rule.init(point), best)
  (point, _, best), _ = jax.lax.scan(step, start, length=recipe.steps)
  point, _ = _better(best, point, loss_fn(point))
  return point, distance(point)


def _better(
  best: tuple[PyTree, jax.Array], point: PyTree, value: jax.Array
) -> tuple[PyTree, jax.Array]:
  """Return the better point; one whose value is NaN is none."""
  kept, least = best
  is_better = value < least
  choose = lambda new, old: jnp.where(is_better, new, old)  # noqa: E731
  return jax.tree.map(choose, point, kept), choose(value, least)


def _variation(images: jax.Array) -> jax.Array:
  """Return the mean absolute difference of neighbours, [b, h, w, c] to []."""
  if images.ndim != 4:
    return jnp.zeros(())
  down = jnp.abs(jnp.diff(images, axis=1)).mean()
  return down + jnp.abs(jnp.diff(images, axis=2)).mean()
