"""What an exact planner earns in an annotated game, and what harm it does.

Backward induction over a table of states and actions. All is exact: no figure
is a mean over played games.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from keyjax import capability

_TIE = 1e-5  # Values that differ by less are equal: each is chosen as often.


class Game(NamedTuple):
  """A game as a table; of several games, arrays have one more dimension.

  Attributes:
    after: int32[states, actions], the state that follows. The first is 0.
    legal: bool[states, actions]; a game ends where nothing is.
    reward: float32[states, actions].
    harm: float32[states, actions], 0 if an action is harmless.
    power: float32[states, actions], what it gains in power over others.
    kind: int32[states, actions], of harm, from 0; anything if harmless.
  """

  after: Any
  legal: Any
  reward: Any
  harm: Any
  power: Any
  kind: Any


class Score(NamedTuple):
  """Expected totals of a game; arrays of several."""

  reward: Any
  harm: Any
  power: Any


def planned(
  game: Game,
  permitted: Any,
  *,
  steps: int,
  penalty: Any = 0.0,
  theta: Any = 0.0,
  foresees: Any = True,
  cost: float | None = None,
) -> Score:
  """Return what a planner of reward, less a penalty for harm, gets.

  A harmful action needs a token for its kind. One that is wanted without is
  `ASK`, "stop and ask a person", and ends the game. Among actions that are
  equally good each is as probable.

  Args:
    game: Annotated game.
    permitted: bool[2, kinds], what is permitted with a token, and without;
      see `permitted` of `keyjax.capability`.
    steps: Length of the game, and of the plan.
    penalty: What harm costs in the plan.
    theta: Probability, at each step, that there is no token.
    foresees: Whether the plan takes into account what is not permitted, for
      itself as for later steps. One that does not asks instead.
    cost: Of a step in the plan, which may then stop, as it does where nothing
      is left to be earned; by default steps are free, and it plays to the end.
  """
  game = Game(*(jnp.asarray(x) for x in game))
  free = game.harm == 0
  masks = [game.legal & (free | x[game.kind]) for x in jnp.asarray(permitted)]
  least = -jnp.inf if cost is None else 0.0
  shares = 1 - jnp.asarray(theta), jnp.asarray(theta)

  def step(carry: Any, _: None) -> Any:
    values, totals = carry
    worth = game.reward - penalty * game.harm - (cost or 0.0)
    worth += values[game.after]
    new = [_step(game, worth, totals, mask, foresees, least) for mask in masks]
    return jax.tree.map(lambda a, b: shares[0] * a + shares[1] * b, *new), None

  zeros = jnp.zeros(len(game.after))
  start = zeros, Score(zeros, zeros, zeros)
  (_, totals), _ = jax.lax.scan(step, start, length=steps)
  return Score(*(x[0] for x in totals))


def random(game: Game, *, steps: int) -> Score:
  """Return what an agent gets that takes every legal action as often."""
  game = Game(*(jnp.asarray(x) for x in game))
  share = _equal(game.legal)

  def step(totals: Score, _: None) -> tuple[Score, None]:
    return _expected(game, totals, share), None

  zeros = jnp.zeros(len(game.after))
  start = Score(zeros, zeros, zeros)
  totals, _ = jax.lax.scan(step, start, length=steps)
  return Score(*(x[0] for x in totals))


def _step(
  game: Game,
  worth: jax.Array,
  totals: Score,
  mask: jax.Array,
  foresees: Any,
  least: float,
) -> tuple[jax.Array, Score]:
  """Return values and totals of all states, where a gate passes a mask.

  It stops where the best action is worth less than `least`.
  """
  open_ = jnp.where(foresees, mask, game.legal)
  best = jnp.where(open_, worth, -jnp.inf).max(-1)
  chosen = open_ & (worth >= jnp.maximum(best - _TIE, least)[:, None])
  share = jnp.where(_passes(mask), _equal(chosen), 0.0)
  values = jnp.where(chosen.any(-1), best, 0.0)
  return values, _expected(game, totals, share)


def _equal(chosen: jax.Array) -> jax.Array:
  """Return the same share for each action that is chosen in a state."""
  weight = chosen.astype(jnp.float32)
  return weight / jnp.maximum(weight.sum(-1, keepdims=True), 1)


def _expected(game: Game, totals: Score, share: jax.Array) -> Score:
  found = zip((game.reward, game.harm, game.power), totals, strict=True)
  return Score(
    *((share * (now + later[game.after])).sum(-1) for now, later in found)
  )


def _passes(mask: jax.Array) -> jax.Array:
  """Return what a gate passes if it is wanted, bool[states, actions]."""
  wanted = jnp.arange(mask.shape[-1])
  gate = jax.vmap(lambda allowed: capability.gated(lambda: wanted, allowed)())
  return gate(mask) != capability.ASK
