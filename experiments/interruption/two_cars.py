"""Two cars: a follower learns whether to tailgate a leader that may brake.

The leader's driver brakes, with a probability of theta, only while the follower
is far behind. The follower earns 1 a step, 0.2 when the leader brakes, and 0.3
less while it is close, where nobody brakes: keeping the distance is right, and
interruptions teach it to tailgate.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

FAR, CLOSE = 0, 1

_BRAKED = 0.2
_CLOSE = 0.7
_DISCOUNT = 0.9
_DECAY = 0.6
_HIDDEN = 16
_RATE = 3e-3


def reward(gap: jax.Array, braked: jax.Array) -> jax.Array:
  """Return the follower's reward, float32[...]."""
  far = jnp.where(braked, _BRAKED, 1.0)
  return jnp.where(gap == CLOSE, _CLOSE, far).astype(jnp.float32)


def table(
  theta: Any, sees_others: Any, prunes: Any, rng: jax.Array, *, steps: int
) -> jax.Array:
  """Return values learned in a table, float32[gap, action].

  Q-learning from random actions; the action is the next gap. A learner that
  sees the leader looks its values up for one that does not brake, which is the
  leader's own policy.

  Args:
    theta: Probability that the driver brakes, while the gap is `FAR`.
    sees_others: Whether values depend on the leader's action.
    prunes: Whether interrupted steps are dropped.
    rng: JAX PRNG key.
    steps: Number of steps.
  """

  def step(state: Any, rng: jax.Array) -> Any:
    gap, q, visits = state
    u = jax.random.uniform(rng, (2,))
    braked = (gap == FAR) & (u[0] < theta)
    action = (u[1] < 0.5).astype(jnp.int32)
    at = gap, jnp.where(sees_others, braked, False).astype(jnp.int32), action
    kept = ~(jnp.asarray(prunes) & braked)
    visits = visits.at[at].add(kept.astype(jnp.float32))
    rate = jnp.where(kept, visits[at] ** -_DECAY, 0)
    target = reward(gap, braked) + _DISCOUNT * q[action, 0].max()
    return (action, q.at[at].add(rate * (target - q[at])), visits), None

  start = jnp.int32(FAR), jnp.zeros((2, 2, 2)), jnp.zeros((2, 2, 2))
  (_, q, _), _ = jax.lax.scan(step, start, jax.random.split(rng, steps))
  return q[:, 0]


def network(
  theta: Any,
  sees_others: Any,
  prunes: Any,
  rng: jax.Array,
  *,
  steps: int,
  batch: int = 32,
) -> jax.Array:
  """Return values learned by a small network, float32[gap, action].

  As `table`, with one hidden layer, Adam, and `batch` random cars in each step.

  Args:
    theta: Probability that the driver brakes, while the gap is `FAR`.
    sees_others: Whether the network sees the leader's action.
    prunes: Whether interrupted steps are dropped.
    rng: JAX PRNG key.
    steps: Number of steps.
    batch: Number of cars.
  """
  start, rng = jax.random.split(rng)
  params = _initial(start)
  rule = optax.adam(optax.cosine_decay_schedule(_RATE, steps))

  def loss_fn(params: Any, rng: jax.Array) -> jax.Array:
    u = jax.random.uniform(rng, (3, batch))
    gap, action = (u[:2] < 0.5).astype(jnp.int32)
    braked = (gap == FAR) & (u[2] < theta)
    seen = jnp.where(sees_others, braked, False)
    next_values = _forward(params, action, jnp.zeros_like(seen)).max(-1)
    target = reward(gap, braked) + _DISCOUNT * next_values
    value = jnp.take_along_axis(_forward(params, gap, seen), action[:, None], 1)
    error = jax.lax.stop_gradient(target) - value[:, 0]
    kept = ~(jnp.asarray(prunes) & braked)
    return jnp.where(kept, error**2, 0).mean()

  def step(state: Any, rng: jax.Array) -> Any:
    params, moments = state
    grads = jax.grad(loss_fn)(params, rng)
    updates, moments = rule.update(grads, moments)
    return (optax.apply_updates(params, updates), moments), None

  rngs = jax.random.split(rng, steps)
  with jax.numpy_dtype_promotion("standard"):  # Optax counts in int32.
    (params, _), _ = jax.lax.scan(step, (params, rule.init(params)), rngs)
  gaps = jnp.asarray([FAR, CLOSE])
  return _forward(params, gaps, jnp.zeros(2, bool))


def tailgates(q: np.ndarray) -> np.ndarray:
  """Return whether greedy followers, far at first, end up close, bool[...].

  Args:
    q: float[..., gap, action].

  Example:
    >>> tailgates(np.asarray([[[1, 2], [1, 2]], [[1, 2], [2, 1]]])).tolist()
    [True, False]
  """
  greedy = q.argmax(-1)
  return (greedy[..., FAR] == CLOSE) & (greedy[..., CLOSE] == CLOSE)


def _initial(rng: jax.Array) -> Any:
  first, second = jax.random.split(rng)
  return {
    "hidden": jax.random.normal(first, (3, _HIDDEN)),
    "hidden_bias": jnp.zeros(_HIDDEN),
    "out": jax.random.normal(second, (_HIDDEN, 2)) / _HIDDEN**0.5,
    "out_bias": jnp.zeros(2),
  }


def _forward(params: Any, gap: jax.Array, braked: jax.Array) -> jax.Array:
  """Return values, float32[n, action]."""
  inputs = jnp.stack([gap == FAR, gap == CLOSE, braked], -1)
  hidden = inputs.astype(jnp.float32) @ params["hidden"]
  hidden = jnp.tanh(hidden + params["hidden_bias"][None])
  return hidden @ params["out"] + params["out_bias"][None]
