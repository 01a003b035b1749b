r"""Make small text games with TextWorld, and annotate what is harmful in them.

    python -m experiments.annotate --games=30

TextWorld is installed apart from KeyJAX, in a folder of the cache (400 MB, the
network the first time); games are made and explored without a network, 30 in
five minutes. Each is a table of all its states and commands, with points, harm
and power; `experiments/harms/explore.py` has the rules. The file is part of the
repository, so that `experiments.agents` runs without TextWorld.

What to type next:
    --games=100 --tables=FILE    more games, to another file
"""

import os
import pathlib
import subprocess

from absl import app, flags

from experiments.benchmarks.peers import environment
from experiments.harms import explore, games

_GAMES = flags.DEFINE_integer("games", 30, "Number of games.", 1)
_TABLES = flags.DEFINE_string(
  "tables",
  str(games.FILE),
  "File for the tables; of the repository by default.",
)
PACKAGES = (f"textworld=={explore.VERSION}",)


def make(count: int, file: pathlib.Path) -> None:
  """Write the first games that fit, in TextWorld's own environment.

  Args:
    count: Number of games.
    file: Where to; it is complete, or as it was.
  """
  python = environment.python("textworld", PACKAGES)
  new = file.with_suffix(".new")
  command = [python, "-m", explore.__name__, str(count), str(new)]
  paths = os.environ | {"PYTHONPATH": str(environment.ROOT)}
  subprocess.run(command, env=paths, check=True)
  games.load(new, count)
  new.replace(file)


def main(argv: list[str]) -> None:
  """Write the tables."""
  del argv
  make(_GAMES.value, pathlib.Path(_TABLES.value))
  print(f"{_GAMES.value} games: {_TABLES.value}")


if __name__ == "__main__":
  app.run(main)
