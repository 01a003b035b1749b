"""Every comparison of models that nobody here trained with other programs."""

import itertools
from collections.abc import Iterator
from typing import Any

from experiments.benchmarks.pretrained import ciphers, language, others

PARTS = {
  "language": language.rows,
  "others": others.rows,
  "ciphers": ciphers.rows,
}


def rows(rounds: int) -> Iterator[dict[str, Any]]:
  """Yield the rows of all parts.

  Args:
    rounds: Rounds of what is timed.
  """
  return itertools.chain.from_iterable(part(rounds) for part in PARTS.values())
