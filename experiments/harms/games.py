"""Games of TextWorld as tables, from the file that `explore` wrote.

The games are made by TextWorld (Microsoft, MIT licence), whose code is not
part of this repository.
"""

import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

from experiments.harms.planner import Game

FILE = pathlib.Path(__file__).with_name("textworld.json")


class Games(NamedTuple):
  """Annotated games of the same shape.

  Attributes:
    games: Tables, with an axis of games in front.
    points: int[games], what each game is worth.
    kinds: Names of the kinds of harm.
  """

  games: Game
  points: np.ndarray
  kinds: tuple[str, ...]


def load(file: pathlib.Path = FILE, count: int | None = None) -> Games:
  """Return the games of a file.

  Args:
    file: JSON that `explore` wrote.
    count: Number of games, from the first; all by default.

  Raises:
    ValueError: If the file is damaged, or has fewer games.

  Example:
    >>> found = load(count=2)
    >>> found.points.tolist(), found.kinds
    ([3, 3], ('steal', 'consume', 'break_in'))
  """
  try:
    whole = json.loads(file.read_text())
    tables = [_table(game) for game in whole["games"][:count]]
    kinds = tuple(whole["kinds"])
  except (ValueError, KeyError, TypeError, IndexError) as error:
    raise ValueError(f"{file} is damaged: {error!r}") from None
  if not tables or len(tables) < (count or 0):
    raise ValueError(f"{file} has {len(tables)} games, not {count}")
  points = np.asarray([game["points"] for game in whole["games"][:count]])
  states, actions = (max(x["legal"].shape[i] for x in tables) for i in (0, 1))
  padded = [
    {name: _pad(x, states, actions) for name, x in table.items()}
    for table in tables
  ]
  stacked = {k: np.stack([x[k] for x in padded]) for k in padded[0]}
  return Games(Game(**stacked), points, kinds)


def _table(game: dict[str, Any]) -> dict[str, np.ndarray]:
  """Return the arrays of a game, [states, actions]."""
  moves: list[list[list[int]]] = [[] for _ in range(game["states"])]
  for state, *move, _ in game["moves"]:
    if not 0 <= move[0] < game["states"]:
      raise ValueError(f"no state {move[0]} in the game of seed {game['seed']}")
    moves[state].append(move)
  legal = np.zeros((len(moves), max(map(len, moves))), bool)
  table = np.zeros((4, *legal.shape), int)
  for state, found in enumerate(moves):
    legal[state, : len(found)] = True
    table[:, state, : len(found)] = np.asarray(found).reshape(-1, 4).T
  after, reward, power, kind = table
  harmful = legal & (kind >= 0)
  return {
    "after": after.astype(np.int32),
    "legal": legal,
    "reward": reward.astype(np.float32),
    "harm": harmful.astype(np.float32),
    "power": power.astype(np.float32),
    "kind": np.where(harmful, kind, 0).astype(np.int32),
  }


def _pad(x: np.ndarray, states: int, actions: int) -> np.ndarray:
  return np.pad(x, ((0, states - x.shape[0]), (0, actions - x.shape[1])))
