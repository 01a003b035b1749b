"""The nearest points of hyperplanes inside a box."""

from typing import Any

import jax
import jax.numpy as jnp

from keyjax.attacks.evasion.problem import Bounds, per_example

_TINY = 1e-12
_FLAT = 1e-8  # Coordinates of a normal below this are not used (l2, l1).


def hyperplane(
  x: jax.Array, normal: jax.Array, gap: jax.Array, norm: str, bounds: Bounds
) -> jax.Array:
  """Return the smallest d with normal . d = -gap and x + d inside the box.

  If there is none, the d that comes nearest to the hyperplane.

  Args:
    x: float[n, ...], points inside the box.
    normal: float[n, ...], one for each point.
    gap: float[n], values of the linear functions at the points, which the
      changes bring to 0.
    norm: "linf", "l2" or "l1".
    bounds: Least and greatest value of a coordinate.

  Reference:
    Francesco Croce and Matthias Hein, "Minimally distorted adversarial examples
    with a fast adaptive boundary attack", ICML 2020.

  Example:
    >>> x, normal = jnp.asarray([[0.5, 0.5]]), jnp.asarray([[1.0, 0.5]])
    >>> hyperplane(x, normal, jnp.asarray([0.75]), "l1", (0.0, 1.0)).tolist()
    [[-0.5, -0.5]]
  """
  n = len(x)
  down = jnp.where(
    per_example(gap, normal) < 0, -normal, normal
  )  # d opposes it.
  room = jnp.where(down > 0, x - bounds[0], bounds[1] - x).reshape(n, -1)
  weight = jnp.abs(normal).reshape(n, -1)
  weight = jnp.where(weight > (0 if norm == "linf" else _FLAT), weight, 0)
  room = jnp.where(weight > 0, room, 0)
  gap = jnp.abs(gap)[:, None]  # [n, 1]
  if norm == "l1":
    size = _steepest_first(weight, room, gap)
  else:
    rate = weight if norm == "l2" else jnp.where(weight > 0, 1, 0)
    size = _evenly(weight, rate.astype(x.dtype), room, gap)
  return -jnp.sign(down) * size.reshape(x.shape)


def _evenly(
  weight: jax.Array, rate: jax.Array, room: jax.Array, gap: jax.Array
) -> jax.Array:
  """Return min(t rate, room) for the t at which weight . it reaches gap.

  That is concave and piecewise linear in t, with a kink where a coordinate
  meets the box: Newton's steps from 0 never go too far, and end at t.
  """
  kinks = jnp.where(rate > 0, room / jnp.maximum(rate, _TINY), 0)

  def newton(state: tuple[jax.Array, jax.Array]) -> Any:
    t, _ = state  # [n, 1]
    free = kinks > t
    left = gap - jnp.where(free, 0, weight * room).sum(-1, keepdims=True)
    slope = jnp.where(free, weight * rate, 0).sum(-1, keepdims=True)
    following = jnp.where(slope > 0, left / jnp.maximum(slope, _TINY), t)
    return jnp.maximum(following, t), (following > t).any()

  start = (jnp.zeros_like(gap), jnp.asarray(True))
  t, _ = jax.lax.while_loop(lambda state: state[1], newton, start)
  return jnp.minimum(t * rate, room)


def _steepest_first(
  weight: jax.Array, room: jax.Array, gap: jax.Array
) -> jax.Array:
  """Return changes that use coordinates of great weight first."""
  order = jnp.argsort(-weight, axis=-1)
  place = jnp.argsort(order, axis=-1)
  weight, room = (
    jnp.take_along_axis(a, order, axis=-1) for a in (weight, room)
  )
  gains = weight * room
  left = gap - (jnp.cumsum(gains, -1) - gains)
  size = jnp.clip(left / jnp.maximum(weight, _TINY), 0, room)
  return jnp.take_along_axis(size, place, axis=-1)
