"""What every study must have, whatever command measures it."""

import json
import types
from collections.abc import Sequence

from experiments import data
from experiments.studies import base


def check_words(study: types.ModuleType) -> None:
  """Check that a study says what it measures, and on which data."""
  assert study.TITLE and not study.TITLE.endswith(".")
  assert study.SENTENCE.endswith(".")
  assert study.DATASETS and set(study.DATASETS) <= set(data.names())
  assert study.__doc__


def check_figures(figures: Sequence[base.Figure]) -> None:
  """Check that figures have names of their own, and intervals around them."""
  names = [figure.name for figure in figures]
  assert names and len(set(names)) == len(names)
  for figure in figures:
    assert figure.low <= figure.value <= figure.high, figure
    assert figure.n >= 0 and isinstance(figure.target, str)
    assert bool(figure.curve) == (figure.x is not None)
  json.dumps(figures)  # Numbers of Python: nothing else is written to files.
