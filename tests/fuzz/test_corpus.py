"""The corpus once, and a few mutated inputs of each target."""

import itertools
import pathlib

import pytest

from tests.fuzz.target import Trial
from tests.fuzz.targets import CORPUS, TARGETS

TRIES = 60
SLOW_TRIES = 6


# Orbax leaves coroutines of a failed read behind.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", TARGETS)
def test_targets(name: str) -> None:
  """Every finding of the past, and the same mutated inputs each time."""
  target = TARGETS[name]
  trial = Trial(target)
  for path in sorted((CORPUS / name).glob("*")):
    trial.check(path.read_bytes())
  inputs = trial.inputs(seed=0)
  made = next(inputs)
  for _ in range(SLOW_TRIES if target.slow else TRIES):
    made = inputs.send(trial.check(made))


def test_every_file_of_the_corpus_has_a_target() -> None:
  folders: set[pathlib.Path] = set(CORPUS.iterdir())
  assert {folder.name for folder in folders} <= set(TARGETS)
  files = itertools.chain.from_iterable(x.iterdir() for x in folders)
  assert all(0 < file.stat().st_size < 1 << 16 for file in files)
