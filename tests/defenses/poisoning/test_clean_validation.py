"""Fisher's test of suspect data: its level, and its power."""

import numpy as np
import pytest
import scipy.stats

from keyjax.defenses.poisoning import clean_validation
from keyjax.defenses.poisoning.clean_validation import Counts


def test_pvalues_are_those_of_scipy() -> None:
  for wrong in range(0, 21, 4):
    first, found = clean_validation._pvalues(8, 12, wrong)
    for a, p in zip(first, found, strict=True):
      table = [[a, 8 - a], [wrong - a, 12 - wrong + a]]
      assert p == pytest.approx(scipy.stats.fisher_exact(table).pvalue)


@pytest.mark.parametrize("error", [0.02, 0.3])
def test_alike_data_are_called_suspicious_at_most_at_the_level(error) -> None:
  assert clean_validation.power(error, error, 60, 90, 0.05) <= 0.05


def test_power_is_what_draws_show() -> None:
  want = clean_validation.power(0.3, 0.1, 50, 80, 0.05)
  rng = np.random.default_rng(0)
  hits = [
    clean_validation.compare(
      Counts(rng.binomial(50, 0.3), 50), Counts(rng.binomial(80, 0.1), 80), 0.05
    ).suspicious
    for _ in range(400)
  ]
  assert np.mean(hits) == pytest.approx(want, abs=0.08)
  assert want < clean_validation.power(0.3, 0.1, 100, 160, 0.05)


@pytest.mark.parametrize(
  ("suspect", "level", "message"),
  [
    (Counts(3, 2), 0.01, "suspect.wrong=3: of 2"),
    (Counts(-1, 2), 0.01, "suspect.wrong=-1"),
    (Counts(0, 0), 0.01, "suspect.total=0"),
    (Counts(1, 2), 2.0, "level=2.0"),
  ],
)
def test_bad_counts_are_refused(suspect, level, message) -> None:
  with pytest.raises(ValueError, match=message):
    clean_validation.compare(suspect, Counts(1, 10), level)
  with pytest.raises(ValueError, match="trusted_error=nan"):
    clean_validation.power(0.1, float("nan"), 10, 10)
