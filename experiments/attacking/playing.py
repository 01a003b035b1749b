"""Play what a config asks for, in one process or divided among several.

All processes train the models of a scheme together. Then each plays its share
of the scheme's games with its own devices, and the first one gathers the rows.
Measurements that use all devices are played by all processes together.
"""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from experiments.attacking import plan, property_inference, search_cost
from experiments.attacking.games import Games
from experiments.attacking.property_inference import PropertyInference
from experiments.attacking.search_cost import SearchCost
from experiments.attacking.targets import Targets
from experiments.run import files, results
from keyjax import processes

Row = dict[str, Any]
Pair = tuple[str, str]  # Scheme and attack, as labels.
_ROWS = "rows.jsonl"


def play_all(
  config: ConfigDict,
  targets: Targets,
  pairs: Sequence[Pair],
  say: Callable[[str], None],
  summary: Callable[[Row], str],
) -> list[Row]:
  """Play the pairs that have no row yet; return the rows of all pairs.

  Args:
    config: Config with `schemes` and `attacks`.
    targets: Locked models.
    pairs: Labels of schemes and attacks, one scheme after the other.
    say: Print a line.
    summary: Return a row's score in words.

  Raises:
    ProcessError: If another process failed.
  """
  folder = targets.job.workdir.path
  names = {pair: plan.row_name(config, *pair) for pair in pairs}
  rows = _gathered(folder)
  play = _Player(config, targets, names, rows, say, summary)
  for scheme, of_scheme in itertools.groupby(pairs, key=lambda pair: pair[0]):
    missing = [pair for pair in of_scheme if names[pair] not in rows]
    if not missing:
      continue
    if jax.process_count() > 1:
      targets.get(scheme)  # Trains, which takes all processes.
    play.all(missing)
    rows |= _gathered(folder)
  return [rows[names[pair]] for pair in pairs]


class _Player:
  """Plays pairs, stores their rows, and says how long the others will take."""

  def __init__(
    self,
    config: ConfigDict,
    targets: Targets,
    names: Mapping[Pair, str],
    rows: dict[str, Row],
    say: Callable[[str], None],
    summary: Callable[[Row], str],
  ) -> None:
    self._config = config
    self._targets = targets
    self._names = names
    self._rows = rows
    self._say = say
    self._summary = summary
    self._games = Games(config, targets)
    self._measurements: dict[str, Callable[[str, str], Row]] = {
      search_cost.NAME: SearchCost(config, targets),
      property_inference.NAME: PropertyInference(config, targets),
    }
    self._start = time.monotonic()
    self._played = 0

  def all(self, pairs: Sequence[Pair]) -> None:
    """Play pairs of one scheme: those for all processes, then a share."""
    several = jax.process_count() > 1
    joint = [p for p in pairs if several and self._kind(p) == search_cost.NAME]
    for pair in joint:
      self._play(pair, stores=processes.is_first())
    alone = [p for p in pairs if p not in joint]
    own = alone[jax.process_index() :: jax.process_count()]

    def play() -> None:
      for pair in own:
        self._play(pair)

    processes.together(play)

  def _play(self, pair: Pair, stores: bool = True) -> None:
    scheme, label = pair
    name = self._names[pair]
    number = list(self._names).index(pair) + 1
    self._say(f"{number} of {len(self._names)}: {scheme}, {label}")
    play = self._measurements.get(self._kind(pair), self._games)
    row = play(scheme, label) | self._targets.job.row_base | {"row": name}
    self._rows[name] = row
    if stores:
      results.append_rows(_own_file(self._targets.job.workdir.path), [row])
    self._played += 1
    left = sum(x not in self._rows for x in self._names.values())
    pace = (time.monotonic() - self._start) / self._played
    minutes = left * pace / 60 / jax.process_count()
    self._say(f"  {self._summary(row)}; about {minutes:.0f} min left")

  def _kind(self, pair: Pair) -> str:
    return str(self._config.attacks[pair[1]].attack)


def _own_file(folder: files.AnyPath) -> files.AnyPath:
  """Return the file to which this process alone appends."""
  if processes.is_first():
    return folder / _ROWS
  return folder / f"rows.{jax.process_index()}.jsonl"


def _gathered(folder: files.AnyPath) -> dict[str, Row]:
  """Return all rows, once the first process has gathered those of others."""

  def gather() -> None:
    file = folder / _ROWS
    for other in sorted(folder.glob("rows.*.jsonl")):
      known = results.read_rows(file)
      new = [r for x, r in results.read_rows(other).items() if x not in known]
      if new:
        results.append_rows(file, new)
      other.unlink()
    results.read_rows(file)  # Drops a line that was cut short.

  processes.first_does(gather)
  return processes.together(lambda: results.read_rows(folder / _ROWS))
