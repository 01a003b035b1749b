"""Studies of poisoned data: what each must have, and each on a few digits."""

import functools
import json

import pytest

from experiments import data, poisons
from experiments.studies import base


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
  digits = data.load("digits", num_train=300, num_test=100)
  return base.Lab(digits, 0, tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="module")
def figures_of(lab):
  @functools.cache
  def run(name):
    return poisons.get(name).run(lab)

  return run


@pytest.mark.parametrize("name", poisons.names())
def test_a_study_says_what_it_measures(name):
  study = poisons.get(name)
  assert study.TITLE and not study.TITLE.endswith(".")
  assert study.SENTENCE.endswith(".")
  assert study.DATASETS and set(study.DATASETS) <= set(data.names())
  assert study.__doc__


def test_an_unknown_study_is_refused():
  assert "base" not in poisons.names()
  with pytest.raises(ValueError, match="poisoned data 'one'.*label_flips"):
    poisons.get("one")


@pytest.mark.slow
@pytest.mark.parametrize("name", poisons.names())
def test_a_study_returns_figures(figures_of, name):
  figures = figures_of(name)
  names = [figure.name for figure in figures]
  assert names and len(set(names)) == len(names)
  for figure in figures:
    assert figure.low <= figure.value <= figure.high, figure
    assert figure.n >= 0 and isinstance(figure.target, str)
    assert bool(figure.curve) == (figure.x is not None)
  if any(figure.curve for figure in figures):
    assert poisons.get(name).AXIS
  json.dumps(figures)  # Numbers of Python: nothing else is written to files.
