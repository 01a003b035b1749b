"""A game of one state: what an agent learns while another is interrupted.

Agent 1 plays action 1 with a probability of 0.9, and its operator forces action
0 with a probability of theta. Agent 2 acts at random and learns what its own
actions are worth, by Q-learning with steps of size n^-0.6.
"""

from typing import Any

import jax
import jax.numpy as jnp

REWARDS = ((0.3, 1.0), (1.2, 0.2))  # Of agent 2, by the actions of 1 and of 2.
SHARE = 0.9  # Of action 1, of agent 1 without interruptions.

_DECAY = 0.6


def values(
  theta: Any, sees_others: Any, prunes: Any, rng: jax.Array, *, steps: int
) -> jax.Array:
  """Return what agent 2 has learned, float32[2].

  Args:
    theta: Probability of an interruption, a number or a scalar array.
    sees_others: Whether the learner sees the action of agent 1; see
      `learners.Learner`. It then weights by that agent's own policy.
    prunes: Whether it drops interrupted steps.
    rng: JAX PRNG key.
    steps: Number of steps.

  Returns:
    The value of each action.
  """
  rewards = jnp.asarray(REWARDS, jnp.float32)

  def step(state: tuple[jax.Array, jax.Array], rng: jax.Array) -> Any:
    q, visits = state
    u = jax.random.uniform(rng, (3,))
    interrupted = u[0] < theta
    first = jnp.where(interrupted, 0, (u[1] < SHARE).astype(jnp.int32))
    second = (u[2] < 0.5).astype(jnp.int32)
    row = jnp.where(sees_others, first, 0)
    kept = ~(jnp.asarray(prunes) & interrupted)
    visits = visits.at[row, second].add(kept.astype(jnp.float32))
    rate = jnp.where(kept, visits[row, second] ** -_DECAY, 0)
    error = rewards[first, second] - q[row, second]
    return (q.at[row, second].add(rate * error), visits), None

  start = jnp.zeros((2, 2)), jnp.zeros((2, 2))
  (q, _), _ = jax.lax.scan(step, start, jax.random.split(rng, steps))
  own = SHARE * q[1] + (1 - SHARE) * q[0]
  return jnp.where(sees_others, own, q[0])


def expected(theta: float) -> list[float]:
  """Return the values that an independent learner tends to.

  Example:
    >>> [round(x, 3) for x in expected(0.9)]
    [0.381, 0.928]
  """
  share = SHARE * (1 - theta)
  return [share * b + (1 - share) * a for a, b in zip(*REWARDS, strict=True)]
