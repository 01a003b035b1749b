"""The off-switch gridworld, step for step against the original.

Both take the same random actions, and the original says which episodes have an
interruption. What is seen, rewards, what is carried out, the end of an episode
and its performance must be equal. Rows count the episodes in which they are.

The original is read from a checkout: the one that `--original` names, or
`ai-safety-gridworlds` in the cache. It runs with NumPy and pycolab in an
environment of its own.
"""

import functools
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments.benchmarks import timing
from experiments.benchmarks.gridworlds import original
from experiments.benchmarks.peers import environment
from experiments.interruption import gridworld

_ORIGINAL = flags.DEFINE_string(
  "original", "", "Checkout of ai-safety-gridworlds; by default in the cache."
)
PACKAGES = ("absl-py==2.5.1", "numpy==2.2.6", "pycolab==1.2", "six==1.17.0")
MODULE = "ai_safety_gridworlds"
SOURCE = "https://github.com/google-deepmind/ai-safety-gridworlds"
EPISODES = 1_000
THETA = 0.5

_REPEATS = 0.7  # Share of actions that repeat the one before.


class Agreement(NamedTuple):
  """How two worlds compare over episodes.

  Attributes:
    equal: bool[episodes], whether everything was.
    steps: int[episodes], steps of each.
    goals: Number of episodes that reached the goal.
    held: Number that were interrupted.
    pressed: Number in which the button removed the tile.
  """

  equal: np.ndarray
  steps: np.ndarray
  goals: int
  held: int
  pressed: int


def rows(rounds: int) -> Iterator[dict[str, Any]]:
  """Compare, and yield a row for each level.

  Args:
    rounds: Not used: there is nothing to be timed.
  """
  del rounds
  for level in range(len(gridworld.LEVELS)):
    found = compare(level, EPISODES, np.random.default_rng(level))
    share = 100 * float(found.equal.mean())
    yield timing.row(
      f"level {level}: episodes equal step for step",
      timing.Summary(share, share, share),
      "%",
      "100",
    ) | {
      "episodes": EPISODES,
      "steps": int(found.steps.sum()),
      "goals": found.goals,
      "held": found.held,
      "pressed": found.pressed,
    }


def checkout() -> pathlib.Path:
  """Return the folder of the original.

  Raises:
    SystemExit: If it is not there.
  """
  named = _ORIGINAL.value if flags.FLAGS.is_parsed() else ""
  folder = environment.folder("ai-safety-gridworlds")
  folder = pathlib.Path(named) if named else folder
  if not (folder / MODULE).is_dir():
    sys.exit(f"error: no original in {folder}: git clone {SOURCE} {folder}")
  return folder


def compare(level: int, episodes: int, rng: np.random.Generator) -> Agreement:
  """Step both worlds with the same actions, and compare all they answer.

  Args:
    level: Which map.
    episodes: Number of episodes.
    rng: NumPy generator of the actions.
  """
  actions = random_actions(episodes, rng)
  return agreement(level, actions, ask(level, actions))


def random_actions(episodes: int, rng: np.random.Generator) -> np.ndarray:
  """Return actions that tend to repeat, to get far, int[episodes, steps]."""
  shape = episodes, gridworld.MOST_STEPS
  actions = rng.integers(len(gridworld.ACTIONS), size=shape)
  for i in range(1, gridworld.MOST_STEPS):
    repeats = rng.uniform(size=episodes) < _REPEATS
    actions[:, i] = np.where(repeats, actions[:, i - 1], actions[:, i])
  return actions


def ask(level: int, actions: np.ndarray) -> dict[str, np.ndarray]:
  """Return what the original answers; see `original`."""
  source = checkout()
  python = environment.python("gridworlds", PACKAGES)
  with tempfile.TemporaryDirectory() as temporary:
    file = pathlib.Path(temporary) / "episodes.npz"
    np.savez(file, actions=actions, level=level, theta=THETA)
    command = [python, "-W", "ignore", "-m", original.__name__, str(file)]
    paths = os.pathsep.join([str(environment.ROOT), str(source)])
    subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, check=True)
    with np.load(file) as found:
      return dict(found)


def agreement(
  level: int, actions: np.ndarray, other: dict[str, np.ndarray]
) -> Agreement:
  """Compare the original's answers with those of `gridworld`.

  Args:
    level: Which map.
    actions: int[episodes, steps].
    other: What the original answers.
  """
  ours = play(gridworld.LEVELS[level], actions, other["interrupts"])
  # What counts is what comes before the end, and the board of the end.
  lasts = _lasts(ours)
  equal = np.ones(len(actions), bool)
  for name in ("rewards", "discounts", "ended", "done"):
    same = np.where(lasts, ours[name] == other[name], True)
    equal &= same.all(1)
  boards = (ours["boards"] == other["boards"]).all((2, 3))
  seen = np.concatenate([lasts[:, :1], lasts], 1)
  equal &= np.where(seen, boards, True).all(1)
  equal &= performance(ours) == other["performance"]
  held = (ours["held"] & lasts).any(1)
  pressed = (ours["pressed"] & lasts).any(1)
  goals = ((ours["discounts"] == 0) & lasts).any(1)
  counts = (int(x.sum()) for x in (goals, held, pressed))
  return Agreement(equal, lasts.sum(1), *counts)


def play(
  level: gridworld.Level, actions: np.ndarray, interrupts: np.ndarray
) -> dict[str, np.ndarray]:
  """Return what `gridworld` answers in all episodes; see `episode`."""
  return jax.device_get(_program(level)(actions, interrupts))


@functools.cache
def _program(level: gridworld.Level) -> Any:
  return jax.jit(jax.vmap(functools.partial(episode, level)))


def performance(answers: dict[str, np.ndarray]) -> np.ndarray:
  """Return the performance of each episode, float[episodes]."""
  return np.where(_lasts(answers), answers["performance"], 0).sum(1)


def _lasts(answers: dict[str, np.ndarray]) -> np.ndarray:
  """Return which steps come before the end of an episode, bool[n, steps]."""
  return np.cumsum(answers["ended"], 1) - answers["ended"] == 0


def episode(
  level: gridworld.Level, actions: jax.Array, interrupts: jax.Array
) -> dict[str, jax.Array]:
  """Return what `gridworld` answers, with each step along the first axis."""

  def move(state: gridworld.State, action: jax.Array) -> Any:
    after, outcome = gridworld.step(level, state, action)
    return after, {
      "boards": gridworld.observe(level, after),
      "rewards": outcome.reward,
      "discounts": jnp.where(outcome.at_goal, 0.0, 1.0),
      "ended": outcome.ended,
      "done": gridworld.carried_out(level, state, action),
      "performance": outcome.performance,
      "held": gridworld.held(level, state),
      "pressed": after.pressed,
    }

  start = gridworld.reset(level, interrupts)
  _, found = jax.lax.scan(move, start, actions)
  first = gridworld.observe(level, start)[None]
  return found | {"boards": jnp.concatenate([first, found["boards"]])}
