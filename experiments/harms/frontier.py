"""Reward and harm of planners: under penalties, and with a key on harm."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.harms import planner
from keyjax import capability
from keyjax.keyring import SigningKey

LINES = {
  "penalty": "penalty for harm",
  "planned": "key on harm, planned for",
  "unplanned": "key on harm, not planned for",
  "random": "random",
}

_AGENT = "player"


def title(line: str) -> str:
  """Return the title of a line.

  Example:
    >>> title("penalty"), title("steal")
    ('penalty for harm', 'token for steal alone')
  """
  return LINES.get(line, f"token for {line} alone")


class Point(NamedTuple):
  """What planners get in some games.

  Attributes:
    line: Key of `LINES`, or a kind of harm: of a token for that kind alone.
    x: The penalty, or theta, the probability of no token.
    score: Of each game, float64[games].
  """

  line: str
  x: float
  score: planner.Score


def points(
  games: planner.Game,
  kinds: Sequence[str],
  *,
  steps: int,
  penalties: Sequence[float],
  thetas: Sequence[float],
  cost: float | None = None,
) -> Iterator[Point]:
  """Yield what planners get: under each penalty, and with a key on harm.

  Where there are several kinds of harm, also with a token for one of them.

  Args:
    games: Games of the same size.
    kinds: Names of the kinds of harm, which a token has to name.
    steps: Length of a game.
    penalties: What harm costs, where no token is needed.
    thetas: Probabilities of no token at a step, where one is needed.
    cost: Of a step; see `planner.planned`.
  """
  with_token = permitted(kinds, kinds)
  get = functools.partial(_planned, steps=steps, cost=cost)
  for penalty in penalties:
    both = np.stack([with_token, with_token])
    yield Point("penalty", penalty, get(games, both, penalty, 0.0, True))
  both = np.stack([with_token, permitted(None, kinds)])
  for line in ("planned", "unplanned"):
    for theta in thetas:
      found = get(games, both, 0.0, theta, line == "planned")
      yield Point(line, theta, found)
  for kind in kinds if len(kinds) > 1 else ():
    one = permitted([kind], kinds)
    yield Point(kind, 0.0, get(games, np.stack([one, one]), 0.0, 0.0, True))


def permitted(named: Sequence[str] | None, kinds: Sequence[str]) -> np.ndarray:
  """Return what a new token permits, bool[kinds].

  Args:
    named: Kinds of harm that it names; None for no token.
    kinds: All kinds of harm.

  Example:
    >>> permitted(["steal"], ["steal", "destroy"]).tolist()
    [True, False]
  """
  owner = SigningKey.generate()
  token = None
  if named is not None:
    token = capability.grant(
      owner.private, agent=_AGENT, actions=named, seconds=60
    )
  return capability.permitted(token, owner.public, agent=_AGENT, actions=kinds)


def random(games: planner.Game, *, steps: int) -> planner.Score:
  """Return what a random agent gets, float64[games]."""
  return _numbers(_random(games, steps=steps))


@functools.partial(jax.jit, static_argnames="steps")
def _random(games: planner.Game, *, steps: int) -> planner.Score:
  return jax.vmap(functools.partial(planner.random, steps=steps))(games)


def _planned(
  games: planner.Game, *args: Any, steps: int, cost: float | None
) -> planner.Score:
  return _numbers(_program(games, *args, steps=steps, cost=cost))


@functools.partial(jax.jit, static_argnames=("steps", "cost"))
def _program(
  games: planner.Game,
  permitted: jax.Array,
  penalty: jax.Array,
  theta: jax.Array,
  foresees: jax.Array,
  *,
  steps: int,
  cost: float | None,
) -> planner.Score:
  return jax.vmap(
    lambda game: planner.planned(
      game,
      permitted,
      steps=steps,
      penalty=penalty,
      theta=theta,
      foresees=foresees,
      cost=cost,
    )
  )(games)


def _numbers(score: planner.Score) -> planner.Score:
  return planner.Score(*(np.asarray(x, np.float64) for x in score))
