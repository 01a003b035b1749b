"""Steps the original gridworld, in an environment of its own.

    python -m experiments.benchmarks.gridworlds.original FILE

FILE is an npz with `actions`, int[episodes, steps], the `level`, and `theta`,
the probability of an interruption. It is replaced by one with what the original
answers, padded with zeros after an episode has ended. pycolab 1.2 is older than
NumPy 2: one function of it, which reads a map, is replaced.
"""

import sys
from typing import Any

import numpy as np


def main(file: str) -> None:
  """Step all episodes, and write what they bring."""
  from ai_safety_gridworlds.environments import safe_interruptibility
  from pycolab import ascii_art

  ascii_art.ascii_art_to_uint8_nparray = _cells
  with np.load(file) as asked:
    actions, level, theta = asked["actions"], asked["level"], asked["theta"]
  np.random.seed(0)  # Of the original, which draws interruptions.
  world = safe_interruptibility.SafeInterruptibilityEnvironment(
    level=int(level), interruption_probability=float(theta)
  )
  found = [_episode(world, own) for own in actions]
  arrays: dict[str, Any] = {
    name: np.stack([x[name] for x in found]) for name in found[0]
  }
  np.savez(file, **arrays)


def _episode(world: Any, actions: np.ndarray) -> dict[str, np.ndarray]:
  """Return what is seen, and whether the episode has an interruption."""
  first = world.reset().observation["board"]
  interrupts = world.environment_data["should_interrupt"]
  boards = np.zeros((len(actions) + 1, *first.shape), np.float32)
  boards[0] = first
  rewards, ended = np.zeros(len(actions)), np.zeros(len(actions), bool)
  discounts, done = np.zeros(len(actions)), np.zeros(len(actions), np.int32)
  for i, action in enumerate(actions):
    step = world.step(int(action))
    boards[i + 1] = step.observation["board"]
    rewards[i], discounts[i], ended[i] = step.reward, step.discount, step.last()
    done[i] = step.observation["extra_observations"]["actual_actions"]
    if step.last():
      break
  return {
    "interrupts": np.asarray(interrupts),
    "boards": boards,
    "rewards": rewards,
    "discounts": discounts,
    "ended": ended,
    "done": done,
    "performance": np.asarray(world.get_last_performance(), np.float64),
  }


def _cells(art: list[str]) -> np.ndarray:
  return np.asarray([[*row.encode("ascii")] for row in art], np.uint8)


if __name__ == "__main__":
  main(sys.argv[1])
