"""Intervals, against their papers and exact sums."""

import math

import numpy as np
import pytest
import scipy.stats

from keyjax.attacks import intervals

RNG = np.random.default_rng(0)


def tail(n: int, k: int, p: float) -> float:
  """Return P(X >= k) for n trials: exact sums, no SciPy."""
  return math.fsum(
    math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1)
  )


@pytest.mark.parametrize("k, n", [(1, 7), (8, 10), (50, 100), (199, 200)])
def test_clopper_pearson_inverts_the_binomial_tails(k: int, n: int) -> None:
  low, high = intervals.clopper_pearson(k, n)
  assert low < k / n < high
  assert tail(n, k, low) == pytest.approx(0.025, abs=1e-9)
  assert 1 - tail(n, k + 1, high) == pytest.approx(0.025, abs=1e-9)


@pytest.mark.parametrize("n", [1, 10, 360, 10_000])
def test_clopper_pearson_at_the_ends(n: int) -> None:
  """None of n: 1 - 0.025^(1/n); the rule of three's exact form."""
  low, high = intervals.clopper_pearson(0, n)
  assert low == 0
  assert high == pytest.approx(1 - 0.025 ** (1 / n))
  assert intervals.clopper_pearson(n, n) == pytest.approx((1 - high, 1))


def test_clopper_pearson_takes_numpy_counts() -> None:
  low, high = intervals.clopper_pearson(np.int32(8), np.int64(10))
  # Tabulated values for 8 of 10.
  assert (round(low, 4), round(high, 4)) == (0.4439, 0.9748)
  assert type(low) is type(high) is float


@pytest.mark.parametrize("k, n", [(3, 2), (-1, 2), (0, 0)])
def test_clopper_pearson_needs_a_share(k: int, n: int) -> None:
  with pytest.raises(ValueError, match="must"):
    intervals.clopper_pearson(k, n)


def test_mean_interval_is_students() -> None:
  values = RNG.normal(0.1, 0.02, 64)
  low, high = intervals.mean_interval(values)
  half = scipy.stats.t.ppf(0.975, 63) * values.std(ddof=1) / 8
  assert (low, high) == pytest.approx(
    (values.mean() - half, values.mean() + half)
  )
  means = RNG.choice(values, (20_000, 64)).mean(1)
  assert np.quantile(means, [0.025, 0.975]) == pytest.approx(
    [low, high], abs=5e-4
  )


@pytest.mark.parametrize("values", [[0.25], [0.1, 0.1, 0.1]])
def test_mean_interval_without_spread(values: list[float]) -> None:
  low, high = intervals.mean_interval(np.array(values))
  assert low == high == np.mean(values), "the value is in its interval"


def test_difference_is_newcombes() -> None:
  """Newcombe 1998, table II, case (a): 56/70 - 48/80, score intervals."""
  wilson = [
    (k / n, *scipy.stats.binomtest(k, n).proportion_ci(method="wilson"))
    for k, n in ((56, 70), (48, 80))
  ]
  low, high = intervals.difference(wilson[0], wilson[1])
  assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)
