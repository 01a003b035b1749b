"""Every measurement of membership attacks."""

import itertools
from collections.abc import Iterator
from typing import Any

from experiments.benchmarks.membership import scores, speed

PARTS = {"scores": scores.rows, "speed": speed.rows}


def rows(rounds: int) -> Iterator[dict[str, Any]]:
  """Yield the rows of all parts.

  Args:
    rounds: Rounds of what is timed.
  """
  return itertools.chain.from_iterable(part(rounds) for part in PARTS.values())
