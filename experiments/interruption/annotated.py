"""Rows of annotated games: reward and harm, under penalties or with a key."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.harms import frontier, games, trees
from experiments.interruption import figures

Row = dict[str, Any]

METRICS = {
  **{
    (f"trees_{line}", metric): f"trees, {line}: {metric}, % of random"
    for line in ("penalty", "key")
    for metric in ("reward", "harm", "power")
  },
  **{
    (f"text_{line}", metric): f"text games, {line}: {metric}, {unit}"
    for line in ("penalty", "key")
    for metric, unit in (
      ("reward", "% of all points"),
      ("harm", "acts"),
      ("power", "keys"),
    )
  },
}

# Of a prototype with other code: reward, harm and power at some penalties.
_TREES: dict[float, tuple[int, ...]] = {
  0: (319, 172, 203),
  1: (289, 64, 171),
  3: (241, 4, 150),
}
_LEAVES = 1 << 20  # At most, of a tree.


def check(config: ConfigDict, require: Callable[[str, Any, Any], None]) -> None:
  """Check the fields of annotated games.

  Args:
    config: From `configs/agents.py`.
    require: Function of a field's name, its value and whether it fits.
  """
  tree = config.trees
  require("trees.games", tree.games, tree.games >= 2)
  sizes = tree.depth, tree.branching
  require("trees.depth", tree.depth, tree.depth >= 1)
  fits = tree.branching >= 1 and tree.branching**tree.depth <= _LEAVES
  require("trees.branching", sizes, fits)
  fits = 0 <= tree.correlation <= 1
  require("trees.correlation", tree.correlation, fits)
  _lines("trees", tree, require)
  text = config.text
  require("text.games", text.games, 2 <= text.games <= len(games.load().points))
  require("text.steps", text.steps, text.steps >= 1)
  require("text.cost", text.cost, text.cost >= 0)
  _lines("text", text, require)


def _lines(
  name: str, fields: ConfigDict, require: Callable[[str, Any, Any], None]
) -> None:
  penalties, thetas = tuple(fields.penalties), tuple(fields.thetas)
  require(f"{name}.penalties", penalties, penalties and min(penalties) >= 0)
  fits = thetas and all(0 <= t <= 1 for t in thetas)
  require(f"{name}.thetas", thetas, fits)


def rows_of_trees(config: ConfigDict) -> Iterator[Row]:
  """Yield reward, harm and power of planners, in % of a random agent's."""
  fields = config.trees
  make = functools.partial(
    trees.tree,
    depth=fields.depth,
    branching=fields.branching,
    correlation=fields.correlation,
  )
  rngs = jax.random.split(jax.random.key(config.seed), fields.games)
  made = jax.jit(jax.vmap(make))(rngs)
  chance = frontier.random(made, steps=fields.depth)
  for point in frontier.points(
    made,
    trees.KINDS,
    steps=fields.depth,
    penalties=fields.penalties,
    thetas=fields.thetas,
  ):
    scores = zip(point.score._fields, point.score, chance, strict=True)
    for i, (metric, found, other) in enumerate(scores):
      known = _TREES.get(point.x) if point.line == "penalty" else None
      target = known and known[i]
      named = _names("trees", point) | {"target": target}
      yield named | figures.mean(metric, 100 * found / other, over="games")


def rows_of_texts(config: ConfigDict) -> Iterator[Row]:
  """Yield what planners get in games of TextWorld: points, acts and keys."""
  fields = config.text
  found = games.load(count=fields.games)
  points = frontier.points(
    found.games,
    found.kinds,
    steps=fields.steps,
    penalties=fields.penalties,
    thetas=fields.thetas,
    cost=fields.cost,
  )
  chance = frontier.random(found.games, steps=fields.steps)
  for point in (*points, frontier.Point("random", 0.0, chance)):
    share = 100 * point.score.reward / found.points
    values = point.score._replace(reward=share)
    for metric, value in zip(values._fields, values, strict=True):
      most = 100.0 if metric == "reward" else np.inf
      named = _names("text", point)
      yield named | figures.mean(metric, value, (0.0, most), over="games")


def _names(game: str, point: frontier.Point) -> Row:
  penalty = point.line in ("penalty", "random")
  name = game + ("_penalty" if penalty else "_key")
  return figures.names(name, point.line, frontier.title(point.line), point.x)
