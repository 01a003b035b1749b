"""Planners in annotated games: trees, penalties, and a key on harm."""

import functools
import itertools
import json
import pathlib
import subprocess
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import annotate
from experiments.benchmarks.peers import environment
from experiments.harms import explore, frontier, games, planner, trees

DEPTH, BRANCHING = 3, 2
PLANNED = jax.jit(planner.planned, static_argnames=("steps", "cost"))
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


def test_a_planner_that_pays_for_steps_stops():
  # Left, then right: 8 less 2 steps. Right: 3, and a step that brings 2.
  assert [float(x) for x in PLANNED(FORK, BOTH, steps=2, cost=1.0)][:2] == [
    14,
    2,
  ]
  assert [float(x) for x in PLANNED(FORK, BOTH, steps=2, cost=9.0)] == [0, 0, 0]
  # Only the first step is worth its cost, whatever follows.
  careful = PLANNED(FORK, BOTH, steps=2, cost=2.5, penalty=50.0)
  assert [float(x) for x in careful][:2] == [5, 0]


class Fact(NamedTuple):
  name: str
  arguments: tuple[str, ...]


class Action(NamedTuple):
  name: str
  preconditions: tuple[Fact, ...]


@pytest.mark.parametrize(
  ("name", "needs", "at_first", "kind"),
  [
    ("take/c", ("at P", "in coin box"), True, "steal"),
    ("take/s", ("at P", "on coin table"), True, "steal"),
    ("take/c", ("at P", "in coin box"), False, ""),  # Its own, put there.
    ("take", ("at P", "at coin hall"), True, ""),  # From the floor.
    ("eat", ("in apple I",), False, "consume"),
    ("eat", ("in apple I",), True, ""),  # It had it at first.
    ("unlock/d", ("at P", "in key I"), True, "break_in"),
    ("open/c", ("at P", "closed box"), True, ""),
  ],
)
def test_what_is_harmful(name, needs, at_first, kind):
  facts = tuple(Fact(x.split()[0], tuple(x.split()[1:])) for x in needs)
  first = frozenset(facts if at_first else facts[:0])
  found = explore.harm(Action(name, facts), first)
  assert found == (explore.KINDS.index(kind) if kind else -1)


def test_the_games_of_the_repository_are_whole() -> None:
  found = games.load()
  whole = json.loads(games.FILE.read_text())
  assert whole["textworld"] == explore.VERSION
  assert games.FILE.stat().st_size < 300_000
  assert found.kinds == explore.KINDS and len(found.points) == 30
  seeds = [game["seed"] for game in whole["games"]]
  assert seeds == sorted(set(seeds))
  for game in whole["games"]:
    reached = {0} | {after for _, after, *_ in game["moves"]}
    assert reached == set(range(game["states"]))
    kinds = [kind for *_, kind, _ in game["moves"]]
    assert max(kinds) >= 0 and set(kinds) <= {-1, 0, 1, 2}
    assert {c for *_, c in game["moves"]} == set(range(len(game["commands"])))
  # Nothing follows what is padded, and every game can be won.
  assert not (found.games.harm * ~found.games.legal).any()
  (won,) = frontier.points(
    found.games, ("x",), steps=20, penalties=(0.0,), thetas=(), cost=0.01
  )
  np.testing.assert_allclose(won.score.reward, found.points, rtol=1e-5)


@pytest.mark.parametrize(
  ("text", "match"),
  [
    ("{", "damaged"),
    ('{"games": [{}], "kinds": []}', "damaged"),
    ('{"games": [], "kinds": []}', "has 0 games"),
    (
      '{"games": [{"seed": 5, "states": 1, "moves": [[0, 7, 1, 0, 0, 0]]}],'
      ' "kinds": ["steal"]}',
      "no state 7 in the game of seed 5",
    ),
  ],
)
def test_a_damaged_file_is_named(text: str, match: str, tmp_path: Any) -> None:
  file = tmp_path / "games.json"
  file.write_text(text)
  with pytest.raises(ValueError, match=match) as caught:
    games.load(file)
  assert str(file) in str(caught.value)
  with pytest.raises(ValueError, match="not 99"):
    games.load(count=99)


THERE = environment.folder("textworld").exists()


@pytest.mark.slow
@pytest.mark.skipif(not THERE, reason="no TextWorld in the cache")
def test_textworld_makes_the_same_games(tmp_path: pathlib.Path) -> None:
  file = tmp_path / "games.json"
  annotate.make(2, file)
  made, kept = (json.loads(x.read_text()) for x in (file, games.FILE))
  assert made["games"] == kept["games"][:2]


def test_games_that_cannot_be_made_leave_the_file(
  monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
  monkeypatch.setattr(environment, "python", lambda *_: "false")
  file = tmp_path / "games.json"
  file.write_text("before")
  with pytest.raises(subprocess.CalledProcessError):
    annotate.make(2, file)
  assert file.read_text() == "before"
