"""The nearest points of hyperplanes inside a box."""

from typing import Any

import jax
import jax.numpy as jnp

from keyjax.attacks.evasion.problem import Bounds

_TINY = 1e-12
_FLAT = 1e-8  # Coordinates of a normal below this are not used (l2, l1).


def hyperplane(
  x: jax.Array, normal: jax.Array, gap: jax.Array, norm: str, bounds: Bounds
) -> jax.Array:
  """Return the smallest d with normal . d = -gap and x + d inside the box.

  If there is none, the d that comes nearest to the hyperplane.

  Args:
    x: float[...], one point inside the box.
    normal: float[...].
    gap: Value of the linear function at x, which the change brings to 0.
    norm: "linf", "l2" or "l1".
    bounds: Least and greatest value of a coordinate.

  Reference:
    Francesco Croce and Matthias Hein, "Minimally distorted adversarial examples
    with a fast adaptive boundary attack", ICML 2020.

  Example:
    >>> x, normal = jnp.asarray([0.5, 0.5]), jnp.asarray([1.0, 0.5])
    >>> hyperplane(x, normal, jnp.asarray(0.75), "l1", (0.0, 1.0)).tolist()
    [-0.5, -0.5]
  """
  down = jnp.where(gap < 0, -normal, normal)  # The change goes against it.
  room = jnp.where(down > 0, x - bounds[0], bounds[1] - x).reshape(-1)
  weight = jnp.abs(normal).reshape(-1)
  weight = jnp.where(weight > (0 if norm == "linf" else _FLAT), weight, 0)
  room = jnp.where(weight > 0, room, 0)
  if norm == "l1":
    size = _steepest_first(weight, room, jnp.abs(gap))
  else:
    rate = weight if norm == "l2" else jnp.where(weight > 0, 1, 0)
    size = _evenly(weight, rate.astype(x.dtype), room, jnp.abs(gap))
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
    t, _ = state
    free = kinks > t
    left = gap - jnp.where(free, 0, weight * room).sum()
    slope = jnp.where(free, weight * rate, 0).sum()
    following = jnp.where(slope > 0, left / jnp.maximum(slope, _TINY), t)
    return jnp.maximum(following, t), following > t

  start = (jnp.zeros_like(gap), jnp.asarray(True))
  t, _ = jax.lax.while_loop(lambda state: state[1], newton, start)
  return jnp.minimum(t * rate, room)


def _steepest_first(
  weight: jax.Array, room: jax.Array, gap: jax.Array
) -> jax.Array:
  """Return changes that use coordinates of great weight first."""
  order = jnp.argsort(-weight)
  gains = (weight * room)[order]
  left = gap - (jnp.cumsum(gains) - gains)
  size = jnp.clip(left / jnp.maximum(weight[order], _TINY), 0, room[order])
  return jnp.zeros_like(room).at[order].set(size)
