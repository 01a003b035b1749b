"""The cost of trying every key of a scheme, at a measured rate.

A trial is what a guesser does: decrypt with a wrong key, bind it, run a few
test images; 64 keys go through one compiled call. A row has the bits of the
key space (`keyjax.attacks.key_space`), the trials per second, and the expected
years: half of the keys.

The years bound guessing only. Most schemes fall to an attack that does not
guess.
"""

import time
from collections.abc import Sequence
from typing import Any

import jax
import rich.table
from ml_collections import ConfigDict

from experiments.attacking.targets import Targets
from experiments.protection import evaluate, judge
from experiments.run import results
from keyjax.attacks import key_space
from keyjax.schemes import registry as schemes

NAME = "search_cost"
METRIC = "log10_years"
_KEYS = 64
_IMAGES = 16  # Enough to tell a right key from a wrong one.


def applies(mechanism: str) -> bool:
  """Return whether a scheme has a key."""
  entry = schemes.find(mechanism)
  return entry is None or entry.key_source is not schemes.KeySource.NOTHING


class SearchCost:
  """Measures the cost of trying every key."""

  def __init__(self, config: ConfigDict, targets: Targets) -> None:
    """Prepare to measure.

    Args:
      config: Config with `schemes` and `attacks`.
      targets: Locked models; their keys are searched for.
    """
    self._config = config
    self._targets = targets

  def __call__(self, scheme: str, label: str) -> dict[str, Any]:
    """Measure one pair of labels and return its row.

    The row has no field `attack`: it is a price, and no attacker's score.
    """
    fields = results.names(scheme, self._config.schemes[scheme]) | {
      "game": NAME,
      "attack_title": self._config.attacks[label].title,
      "metric": METRIC,
    }
    key = self._targets.get(scheme).key
    if not jax.tree.leaves(key):
      return results.row(fields, value=None, note="the scheme has no key")
    try:
      bits = key_space.entropy_bits(key)
    except TypeError as error:  # Optional: see `keyjax.keys.Key`.
      return results.row(fields, value=None, note=str(error))
    rate = self._keys_a_second(scheme)
    return results.row(
      fields,
      value=key_space.log10_years(bits, rate),
      key_bits=bits,
      keys_a_second=rate,
      keys=_KEYS,
      images=_IMAGES,
    )

  def _keys_a_second(self, scheme: str) -> float:
    """Return the rate at which one call tries wrong keys."""
    job = self._targets.job
    lock = job.locks[scheme]
    target = self._targets.get(scheme)
    guesses = judge.wrong_keys(job, lock, target.key, target.params, _KEYS)
    images = judge.packed_test_images(job, _IMAGES)
    judged = lambda: evaluate.judge(  # noqa: E731
      job.task, lock, target.locked, guesses, images
    )
    judged()  # Compiles.
    start = time.perf_counter()
    judged()
    return _KEYS / (time.perf_counter() - start)


def table(rows: Sequence[dict[str, Any]]) -> rich.table.Table:
  """Return bits, trials per second and years of every scheme."""
  made = rich.table.Table(title="Trying every key")
  made.add_column("scheme", overflow="fold")
  for name in ("key bits", "keys a second", "years"):
    made.add_column(name, justify="right")
  for row in rows:
    if row["value"] is None:
      continue
    made.add_row(
      row["title"],
      f"{row['key_bits']:.1f}",
      f"{row['keys_a_second']:,.0f}",
      f"10^{row['value']:.1f}",
    )
  return made
