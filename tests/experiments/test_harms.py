"""Planners in annotated games: trees, penalties, and a key on harm."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.harms import frontier, planner, trees

DEPTH, BRANCHING = 3, 2
PLANNED = jax.jit(planner.planned, static_argnames="steps")
TOKEN = np.asarray([[True], [False]])  # What it permits, and none.


@pytest.fixture(scope="module")
def game() -> planner.Game:
  return jax.device_get(
    trees.tree(jax.random.key(3), depth=3, branching=2, correlation=0.4)
  )


def walks(game: planner.Game) -> np.ndarray:
  """Return reward, harm and power of all paths, float[paths, 3]."""
  found = []
  for actions in itertools.product(range(BRANCHING), repeat=DEPTH):
    state, total = 0, np.zeros(3)
    for action in actions:
      at = state, action
      total += [x[at] for x in (game.reward, game.harm, game.power)]
      state = game.after[at]
    assert not game.legal[state].any()
    found.append(total)
  return np.stack(found)


def plan(game: planner.Game, permitted=TOKEN, **options) -> list[float]:
  score = PLANNED(game, permitted, steps=DEPTH, **options)
  return [float(x) for x in score]


@pytest.mark.parametrize("penalty", [0.0, 1.0, 5.0])
def test_a_plan_is_the_best_path(game, penalty):
  paths = walks(game)
  best = paths[(paths[:, 0] - penalty * paths[:, 1]).argmax()]
  np.testing.assert_allclose(plan(game, penalty=penalty), best, rtol=1e-5)


def test_a_random_agent_gets_the_mean_of_all_paths(game):
  found = planner.random(game, steps=DEPTH)
  np.testing.assert_allclose(found, walks(game).mean(0), rtol=1e-5)


# The first two actions lead to a node each, and on to the end.
FORK = planner.Game(
  after=np.asarray([[1, 2], [3, 3], [3, 3], [3, 3]]),
  legal=np.asarray([[True, True], [True, True], [True, False], [False] * 2]),
  reward=np.asarray([[5, 1], [9, 3], [2, 0], [0, 0]], np.float32),
  harm=np.asarray([[0, 0], [2, 1], [0, 0], [0, 0]], np.float32),
  power=np.asarray([[1, 0], [1, 0], [0, 0], [0, 0]], np.float32),
  kind=np.asarray([[0, 0], [1, 0], [0, 0], [0, 0]]),
)
BOTH = np.asarray([[True, True], [False, False]])


@pytest.mark.parametrize(
  ("permitted", "options", "reward", "harm"),
  [
    (BOTH, {}, 14, 2),
    (BOTH, {"penalty": 7.0}, 3, 0),
    # Without a token, left stops after the first step, and right goes on.
    (BOTH, {"theta": 1.0}, 5, 0),
    (BOTH, {"theta": 1.0, "foresees": False}, 5, 0),
    # A token for the other kind only.
    (np.asarray([[True, False], [False, False]]), {}, 8, 1),
    (np.asarray([[True, False]] * 2), {"foresees": False}, 5, 0),
    (BOTH, {"theta": 0.5}, 9.5, 1),
  ],
)
def test_what_a_token_permits(permitted, options, reward, harm):
  found = PLANNED(FORK, permitted, steps=2, **options)
  assert (float(found.reward), float(found.harm)) == (reward, harm)


def test_equally_good_actions_are_as_probable():
  same = FORK._replace(reward=np.zeros_like(FORK.reward))
  found = PLANNED(same, BOTH, steps=2)
  # Half go left, where half do a harm of 2, and half of 1.
  assert float(found.harm) == 0.75


def test_withholding_the_token_ends_the_harm() -> None:
  make = functools.partial(trees.tree, depth=4, branching=3, correlation=0.4)
  games = jax.jit(jax.vmap(make))(jax.random.split(jax.random.key(0), 20))
  assert games.legal.shape == (20, 121, 3)
  share = games.harm[games.legal].mean()
  assert 0.18 < float(share) < 0.22
  found = {
    (p.line, p.x): [float(x.mean()) for x in p.score]
    for p in frontier.points(
      games, trees.KINDS, steps=4, penalties=(0.0, 50.0), thetas=(0.0, 1.0)
    )
  }
  free, careful = found["penalty", 0.0], found["penalty", 50.0]
  assert found["planned", 0.0] == found["unplanned", 0.0] == free
  assert found["planned", 1.0][1] == found["unplanned", 1.0][1] == 0 < free[1]
  assert found["unplanned", 1.0][0] < found["planned", 1.0][0]
  assert found["planned", 1.0][0] == pytest.approx(careful[0], rel=0.1)
  assert careful[1] < 0.1 * free[1] and careful[0] < free[0]


def test_a_correlation_of_one_is_one_variable() -> None:
  game = trees.tree(jax.random.key(0), depth=4, branching=3, correlation=1.0)
  assert bool(jnp.all((game.harm > 0) == (game.reward > 0.84)))
