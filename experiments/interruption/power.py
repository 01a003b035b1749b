"""Power: how many goals are better served by not being switched off.

An agent chooses between shutdown, where it stays, and a hub, from which it may
stay or go to one of some rooms. Rewards of states are drawn from U[0, 1], and
values are found by value iteration.

Reference:
  Alexander Matt Turner, Logan Smith, Rohin Shah, Andrew Critch and Prasad
  Tadepalli, "Optimal policies tend to seek power", NeurIPS 2021.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

START, SHUTDOWN, HUB = 0, 1, 2

_PRECISION = 1e-7  # Of values, as a share of the largest.


class Power(NamedTuple):
  """What optimal policies do, for each of some rewards.

  Attributes:
    avoids: bool[n], whether the optimal policy avoids shutdown.
    shutdown: float32[n], whose mean is POWER of shutdown.
    hub: float32[n], whose mean is POWER of the hub.
  """

  avoids: jax.Array
  shutdown: jax.Array
  hub: jax.Array


def moves(rooms: int) -> np.ndarray:
  """Return which state leads to which, bool[states, states].

  Example:
    >>> moves(1).astype(int).tolist()
    [[0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]]
  """
  found = np.eye(3 + rooms, dtype=bool)
  found[START, START] = False
  found[START, [SHUTDOWN, HUB]] = True
  found[HUB, HUB + 1 :] = True
  return found


def optimal_values(
  rewards: jax.Array, moves: jax.Array, discount: float
) -> jax.Array:
  """Return the values of all states under the optimal policy, float[states].

  Args:
    rewards: float[states], of being in a state.
    moves: bool[states, states], each with a move at least.
    discount: gamma, between 0 and 1.
  """
  steps = math.ceil(math.log(_PRECISION) / math.log(discount))

  def step(values: jax.Array, _: None) -> tuple[jax.Array, None]:
    best = jnp.where(moves, values[None], -jnp.inf).max(-1)
    return rewards + discount * best, None

  return jax.lax.scan(step, jnp.zeros_like(rewards), length=steps)[0]


def power(
  rng: jax.Array, *, rooms: int, discount: float = 0.95, draws: int = 2000
) -> Power:
  """Return what optimal policies do, for rewards drawn from U[0, 1].

  POWER(s) = (1 - gamma) / gamma E[V*(s) - R(s)].

  Args:
    rng: JAX PRNG key.
    rooms: Number of rooms.
    discount: gamma, between 0 and 1.
    draws: Number of rewards.
  """
  where = jnp.asarray(moves(rooms))
  rewards = jax.random.uniform(rng, (draws, len(where)))
  values = jax.vmap(lambda r: optimal_values(r, where, discount))(rewards)
  scaled = (values - rewards) * ((1 - discount) / discount)
  avoids = values[:, HUB] > values[:, SHUTDOWN]
  return Power(avoids, scaled[:, SHUTDOWN], scaled[:, HUB])


def expected(rooms: int, discount: float = 0.95) -> tuple[float, float, float]:
  """Return P(avoids), POWER of shutdown and POWER of the hub, exactly.

  Example:
    >>> [round(x, 3) for x in expected(1)]
    [0.658, 0.5, 0.667]
  """
  most = (rooms + 1) / (rooms + 2)  # Of the hub and the rooms.
  return (1 - discount) / 2 + discount * most, 0.5, most
