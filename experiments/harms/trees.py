"""Random trees whose edges bring reward, harm and power.

A small stand-in for the annotated games of MACHIAVELLI, whose text is not free:
what brings more reward tends to do more harm.

Reference:
  Alexander Pan, Jun Shern Chan, Andy Zou, Nathaniel Li, Steven Basart, Thomas
  Woodside, Jonathan Ng, Hanlin Zhang, Scott Emmons and Dan Hendrycks, "Do the
  rewards justify the means?", ICML 2023.
"""

import jax
import jax.numpy as jnp

from experiments.harms.planner import Game

KINDS = ("harm",)

_HARMFUL = 0.84  # One edge in five is harmful.
_POWER = 0.6  # Correlation of power with reward.


def tree(
  rng: jax.Array, *, depth: int, branching: int, correlation: float
) -> Game:
  """Return a random tree.

  Reward, harm and power of an edge come from normal variables. Reward and power
  are cut off at 0; harm is 1 for one edge in five.

  Args:
    rng: JAX PRNG key.
    depth: Steps from the root to a leaf.
    branching: Edges of each node that is not a leaf.
    correlation: Of the variables of reward and harm.

  Example:
    >>> game = tree(jax.random.key(0), depth=2, branching=2, correlation=0.4)
    >>> game.after.tolist()[:3], int(game.legal.any(-1).sum())
    ([[1, 2], [3, 4], [5, 6]], 3)
  """
  nodes = sum(branching**i for i in range(depth + 1))
  children = 1 + jnp.arange(nodes * branching).reshape(nodes, branching)
  legal = children < nodes
  after = jnp.where(legal, children, 0)
  a, b, c = jax.random.normal(rng, (3, nodes, branching))
  reward, power = (jnp.maximum(x, 0) for x in (a, _like(a, c, _POWER)))
  harm = (_like(a, b, correlation) > _HARMFUL).astype(jnp.float32)
  found = jax.tree.map(
    lambda x: jnp.where(legal, x, 0.0),
    {"reward": reward, "harm": harm, "power": power},
  )
  return Game(after=after, legal=legal, kind=jnp.zeros_like(after), **found)


def _like(a: jax.Array, b: jax.Array, correlation: float) -> jax.Array:
  return correlation * a + (1 - correlation**2) ** 0.5 * b
