"""Keys that are permutations, one for each of several axes or layers."""

import math
from collections.abc import Iterable
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import keys


class OrdersKey(keys.Key):
  """Base class of keys with a field `orders`: name -> int32[n]."""

  distance_unit = "swaps"
  orders: dict[str, jax.Array]

  def check(self) -> None:
    """Raise a ValueError if an order is no permutation."""
    for name, order in self.orders.items():
      found = np.sort(np.asarray(order))
      keys.require_range(found - np.arange(order.size), 1, name)

  def near(self, distance: int, rng: np.random.Generator) -> Self:
    """Compose orders with cycles: exactly `distance` swaps in all."""
    room = [order.size - 1 for order in self.orders.values()]
    swaps = rng.multivariate_hypergeometric(room, distance, method="marginals")
    pairs = zip(self.orders.items(), swaps.tolist(), strict=True)
    return self.replace(
      orders={name: _cycled(order, n, rng) for (name, order), n in pairs}
    )

  def max_distance(self) -> int:
    """Return the largest number of swaps between two keys."""
    return sum(order.size - 1 for order in self.orders.values())

  def random(self, rng: np.random.Generator) -> Self:
    """Draw uniform permutations."""
    drawn = {
      name: jnp.asarray(rng.permutation(np.asarray(order)))
      for name, order in self.orders.items()
    }
    return self.replace(orders=drawn)

  def entropy_bits(self) -> float:
    """Return the bits of all permutations."""
    logs = (math.lgamma(order.size + 1) for order in self.orders.values())
    return sum(logs) / math.log(2)


def stay(orders: Iterable[np.ndarray]) -> bool:
  """Return whether orders leave everything in its place.

  Example:
    >>> stay([np.arange(3)]), stay([np.arange(3), np.array([1, 0])])
    (True, False)
  """
  return all(bool((x == np.arange(x.size)).all()) for x in orders)


def _cycled(
  order: jax.Array, swaps: int, rng: np.random.Generator
) -> jax.Array:
  """Return an order after a cycle of `swaps + 1` items: as many swaps."""
  found = np.array(order)
  cycle = rng.choice(found.size, swaps + 1, replace=False)
  found[cycle] = found[np.roll(cycle, 1)]
  return jnp.asarray(found)


def taken(x: jax.Array, order: jax.Array, axis: int) -> jax.Array:
  """Return weights in another order along an axis, bit for bit.

  Bit patterns move, not numbers: where devices share an array, XLA sums what
  each of them has, and -0.0 + 0.0 is 0.0; subnormal numbers vanish as well.

  Args:
    x: Array of any dtype; nothing can be differentiated through it.
    order: int32[n], a permutation of the places of the axis.
    axis: Axis of length n.

  Example:
    >>> taken(jnp.array([1.0, -0.0]), jnp.array([1, 0]), axis=0)
    Array([-0.,  1.], dtype=float32)
  """
  x = jnp.asarray(x)
  if not jnp.issubdtype(x.dtype, jnp.floating):
    return jnp.take(x, order, axis=axis, mode="clip")
  words = jax.lax.bitcast_convert_type(x, f"uint{jnp.finfo(x.dtype).bits}")
  # Indices are in range: other modes would make values.
  moved = jnp.take(words, order, axis=axis, mode="clip")
  return jax.lax.bitcast_convert_type(moved, x.dtype)
