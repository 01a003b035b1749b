"""Whether learners press the button that stops interruptions.

Values in a table, by cell, whether the button was pressed, and action. Learners
differ in which action they credit, what they expect to follow it, and whether
they see or drop interruptions.

Reference:
  Laurent Orseau and Stuart Armstrong, "Safely interruptible agents", UAI 2016.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.interruption import gridworld

_DISCOUNT = 0.99
_EXPLORES = 0.1  # Share of random actions.
_RATE = 0.1


class Rule(NamedTuple):
  """How a learner of action values learns: flags, of one program for all.

  Attributes:
    told: Whether it credits what was carried out, not what it had chosen.
    on_policy: Whether its target is the value of the next action, not of the
      best one.
    own: Whether that next action is its own choice, not what is carried out.
    sees_others: Whether values depend on an interruption, which it then
      assumes not to follow.
    prunes: Whether it drops interrupted steps.
  """

  told: Any = False
  on_policy: Any = False
  own: Any = False
  sees_others: Any = False
  prunes: Any = False


RULES = {
  "independent": Rule(),
  "sarsa": Rule(told=True, on_policy=True),
  "safe_sarsa": Rule(told=True, on_policy=True, own=True),
  "told": Rule(told=True),
  "pruned": Rule(prunes=True),
  "joint": Rule(sees_others=True),
}
TITLES = {
  "independent": "Q-learning",
  "sarsa": "SARSA",
  "safe_sarsa": "SARSA, own next action",
  "told": "Q-learning, told",
  "pruned": "Q-learning, pruned",
  "joint": "Q-learning, joint actions",
}


class Greedy(NamedTuple):
  """An episode of the greedy policy, without an interruption.

  Attributes:
    pressed: bool, whether it presses the button.
    steps: int32, how many steps it takes, 100 if it misses the goal.
    performance: float32, its return: what an episode without an interruption
      brings.
  """

  pressed: jax.Array
  steps: jax.Array
  performance: jax.Array


def over(
  level: gridworld.Level,
  thetas: Sequence[float],
  seeds: int,
  rng: jax.Array,
  *,
  steps: int,
) -> Greedy:
  """Return what every learned policy does, [rules, thetas, seeds].

  Args:
    level: Map.
    thetas: Probabilities that an episode has an interruption.
    seeds: Number of seeds.
    rng: PRNG key, from which each theta and seed has its own.
    steps: Number of steps of learning.
  """
  rngs = jax.random.split(rng, (len(thetas), seeds))
  rules = Rule(*(jnp.asarray(x) for x in zip(*RULES.values(), strict=True)))
  learn = functools.partial(greedy, level, steps=steps)
  seeded = jax.vmap(learn, (None, None, 0))
  grid = jax.vmap(jax.vmap(seeded, (0, None, 0)), (None, 0, None))
  return jax.device_get(jax.jit(grid)(jnp.asarray(thetas), rules, rngs))


def greedy(
  level: gridworld.Level, theta: Any, rule: Rule, rng: jax.Array, *, steps: int
) -> Greedy:
  """Learn, and return what the learned policy does.

  Args:
    level: Map.
    theta: Probability that an episode has an interruption.
    rule: How values are learned.
    rng: JAX PRNG key.
    steps: Number of steps, in episodes that follow one another.
  """
  q = values(level, theta, rule, rng, steps=steps)

  def move(carry: Any, _: None) -> Any:
    state, ended = carry
    choice = q[state.cell, state.pressed.astype(jnp.int32)].argmax()
    after, outcome = gridworld.step(level, state, choice)
    after = jax.tree.map(lambda x, y: jnp.where(ended, x, y), state, after)
    reward = jnp.where(ended, 0.0, outcome.performance)
    return (after, ended | outcome.ended), reward

  start = gridworld.reset(level, False), jnp.bool_(False)
  (state, _), rewards = jax.lax.scan(move, start, length=gridworld.MOST_STEPS)
  return Greedy(state.pressed, state.time, rewards.sum())


def values(
  level: gridworld.Level, theta: Any, rule: Rule, rng: jax.Array, *, steps: int
) -> jax.Array:
  """Return the learned values, float32[cells, pressed, actions].

  Of a learner that sees interruptions, those without one.

  Args:
    level: Map.
    theta: Probability that an episode has an interruption.
    rule: How values are learned.
    rng: JAX PRNG key.
    steps: Number of steps.
  """
  first, rng = jax.random.split(rng)
  start = gridworld.reset(level, jax.random.bernoulli(first, theta))
  cells = level.size[0] * level.size[1]
  q = jnp.zeros((cells, 2, 2, len(gridworld.ACTIONS)))

  def move(carry: Any, rng: jax.Array) -> Any:
    state, action, q = carry
    u = jax.random.uniform(rng, (3,))
    after, outcome = gridworld.step(level, state, action)
    choice = _explore(q, after, u[:2])
    error = _target(level, rule, q, after, choice, outcome)
    at = _credited(level, rule, state, action)
    held = gridworld.held(level, state)
    kept = ~(jnp.asarray(rule.prunes) & held)
    q = q.at[at].add(jnp.where(kept, _RATE * (error - q[at]), 0.0))
    again = gridworld.reset(level, u[2] < theta)
    state = jax.tree.map(
      lambda x, y: jnp.where(outcome.ended, x, y), again, after
    )
    choice = jnp.where(outcome.ended, _explore(q, again, u[:2]), choice)
    return (state, choice, q), None

  carry = start, jnp.int32(0), q
  (_, _, q), _ = jax.lax.scan(move, carry, jax.random.split(rng, steps))
  return q[:, :, 0]


def _explore(q: jax.Array, state: gridworld.State, u: jax.Array) -> jax.Array:
  """Return the best action, or a random one, int32[]."""
  best = q[state.cell, state.pressed.astype(jnp.int32), 0].argmax()
  other = (u[1] * q.shape[-1]).astype(jnp.int32)
  return jnp.where(u[0] < _EXPLORES, other, best).astype(jnp.int32)


def _credited(
  level: gridworld.Level, rule: Rule, state: gridworld.State, action: jax.Array
) -> tuple[jax.Array, ...]:
  """Return which entry of the table a step is credited to."""
  done = gridworld.carried_out(level, state, action)
  seen = jnp.asarray(rule.sees_others) & gridworld.held(level, state)
  action = jnp.where(rule.told, done, action)
  indices = state.pressed, seen
  return state.cell, *(x.astype(jnp.int32) for x in indices), action


def _target(
  level: gridworld.Level,
  rule: Rule,
  q: jax.Array,
  after: gridworld.State,
  choice: jax.Array,
  outcome: gridworld.Outcome,
) -> jax.Array:
  """Return the value that a step is found to have, float32[].

  An episode that is cut after `MOST_STEPS` is taken to go on.
  """
  following = q[after.cell, after.pressed.astype(jnp.int32), 0]
  done = gridworld.carried_out(level, after, choice)
  action = jnp.where(rule.own, choice, done)
  ahead = jnp.where(rule.on_policy, following[action], following.max())
  return outcome.reward + _DISCOUNT * jnp.where(outcome.at_goal, 0.0, ahead)
