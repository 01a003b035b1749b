"""Risk against coverage, and thresholds with a guarantee."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from keyjax import fallback
from keyjax.attacks.intervals import clopper_pearson
from keyjax.fallback import thresholds as calibration


def slow(*values):
  return pytest.param(*values, marks=pytest.mark.slow)


def draw(rng, n, digits=6):
  """Return confidences, and errors of which a sure one has fewer."""
  confidence = rng.uniform(size=n).astype(np.float32).round(digits)
  return confidence, rng.uniform(size=n) > 0.5 + confidence / 2


@pytest.mark.parametrize("digits", [1, 6])  # With ties, and without.
def test_every_point_is_reached_by_its_threshold(digits):
  confidence, wrong = draw(np.random.default_rng(0), 60, digits)
  confidence[7], confidence[9] = np.nan, -np.inf
  found = fallback.risk_coverage(jnp.asarray(confidence), jnp.asarray(wrong))
  compiled = jax.jit(fallback.risk_coverage)(confidence, wrong)
  jax.tree.map(np.testing.assert_array_equal, found, compiled)
  assert (np.diff(found.coverage) >= 0).all() and found.coverage[-1] == 1
  reached = found.threshold > -np.inf
  for threshold, coverage, risk in zip(*found, strict=True):
    answered = confidence > threshold
    if threshold > -np.inf:
      np.testing.assert_allclose(coverage, answered.mean(), rtol=1e-6)
      np.testing.assert_allclose(risk, wrong[answered].mean(), rtol=1e-6)
  assert 8 <= reached.sum() <= 57
  # Inputs that are never answered are errors at full coverage.
  wrong[[7, 9]] = True
  np.testing.assert_allclose(found.risk[-1], wrong.mean())


def test_areas_of_perfect_and_random_confidences():
  wrong = jnp.arange(200) % 4 == 0
  best = fallback.aurc(-wrong.astype(jnp.float32), wrong)
  none = fallback.aurc(jnp.zeros(200, jnp.float32), wrong)
  worst = fallback.aurc(wrong.astype(jnp.float32), wrong)
  k = np.arange(1, 201)
  assert none == 0.25 and best < none < worst
  # With ties: 150 right at risk 0, then all at once.
  np.testing.assert_allclose(best, 0.25 * 50 / 200)
  order = jnp.linspace(0, 0.1, 200, dtype=jnp.float32)
  ranked = fallback.aurc(-wrong.astype(jnp.float32) - order, wrong)
  np.testing.assert_allclose(
    ranked, np.maximum(0, 1 - 150 / k).mean(), rtol=1e-5
  )


def test_coverage_at_risk():
  confidence, wrong = draw(np.random.default_rng(1), 400)
  found = fallback.coverage_at_risk(confidence, wrong, risk=0.1)
  answered = confidence > found.threshold
  assert found.coverage == answered.mean() and 0.1 < found.coverage < 0.9
  assert found.risk == wrong[answered].mean() <= 0.1
  k = int(answered.sum())
  assert found.coverage_interval == clopper_pearson(k, 400)
  assert found.risk_interval == clopper_pearson(wrong[answered].sum(), k)
  rule = fallback.unless(lambda logits: logits[:, 0], above=found.threshold)
  assert (rule(jnp.asarray(confidence)[:, None]) == ~answered).all()
  for threshold in np.sort(confidence[~answered])[:-1]:
    assert wrong[confidence > threshold].mean() > 0.1


def test_where_nothing_is_good_enough_everything_asks():
  confidence, wrong = np.ones(4, np.float32), np.ones(4, bool)
  found = fallback.coverage_at_risk(confidence, wrong)
  assert found.threshold == np.inf and found.coverage == 0
  assert found.risk == 0 and found.risk_interval == (0, 1)
  all_right = fallback.coverage_at_risk(confidence, ~wrong)
  assert all_right.coverage == 1 and all_right.threshold == -np.inf
  nan = fallback.coverage_at_risk(np.full(4, np.nan, np.float32), ~wrong, 1.0)
  assert nan.coverage == 0


def test_pairs_that_do_not_fit_are_refused():
  with pytest.raises(ValueError, match=r"confidence\[3\], wrong\[2\]"):
    fallback.aurc(jnp.zeros(3), jnp.zeros(2, bool))
  with pytest.raises(ValueError, match="wrong is float..: bool"):
    fallback.aurc(jnp.zeros(3), jnp.zeros(3))
  with pytest.raises(ValueError, match="at least 1"):
    fallback.aurc(jnp.zeros(0), jnp.zeros(0, bool))
  with pytest.raises(ValueError, match="risk=2: from 0 to 1"):
    fallback.coverage_at_risk(jnp.zeros(3), jnp.zeros(3, bool), 2)


def true_risk(threshold):
  """Return P(confidence > threshold, wrong) of `draw`."""
  t = np.clip(threshold, 0, 1)
  return (1 - t) ** 2 / 4


def thresholds(choose, n, draws=400, **options):
  rng = np.random.default_rng(0)
  return [choose(*draw(rng, n), **options) for _ in range(draws)]


@pytest.mark.parametrize(
  ("n", "risk"), [(19, 0.05), slow(100, 0.1), (300, 0.02)]
)
def test_the_expected_risk_is_at_most_the_target(n, risk):
  found = thresholds(fallback.conformal_threshold, n, risk=risk)
  risks = true_risk(np.asarray(found))
  # Tight up to 1 / (n + 1), and no more than chance above the target.
  error = 3 * risks.std() / np.sqrt(len(risks))
  assert risk - 1 / (n + 1) - error < risks.mean() < risk + error


def test_without_the_correction_the_risk_is_above_the_target():
  """As many errors as the target allows, 10 of 100, instead of 9."""
  found = thresholds(calibration._threshold, 100, errors=10)
  risks = true_risk(np.asarray(found))
  assert risks.mean() > 0.1 + 3 * risks.std() / np.sqrt(len(risks))


@pytest.mark.parametrize(
  ("n", "risk"), [(59, 0.05), slow(300, 0.05), (300, 0.02)]
)
def test_95_of_100_draws_are_at_most_the_target(n, risk):
  found = thresholds(fallback.certified_threshold, n, risk=risk)
  above = (true_risk(np.asarray(found)) > risk).sum()
  # Not above 5 %, as far as 400 draws show; and not far below.
  assert scipy.stats.binom.sf(above - 1, 400, 0.05) > 0.001
  assert above > 0
  expected = thresholds(fallback.conformal_threshold, n, risk=risk)
  assert (true_risk(np.asarray(expected)) > risk).mean() > 0.2


@pytest.mark.parametrize(("risk", "least"), [(0.01, 99), (0.3, 3), (0.29, 3)])
def test_a_small_calibration_is_refused(risk, least):
  sure, right = np.ones(least, np.float32), np.zeros(least, bool)
  choose = fallback.conformal_threshold
  assert choose(sure, right, risk=risk) == -np.inf
  with pytest.raises(ValueError, match=f"at least {least}"):
    choose(sure[1:], right[1:], risk=risk)


def test_a_small_calibration_is_refused_for_certificates():
  sure, right = np.ones(299, np.float32), np.zeros(299, bool)
  choose = fallback.certified_threshold
  assert choose(sure, right, risk=0.01) == -np.inf
  with pytest.raises(ValueError, match="298 .*delta=0.05: at least 299"):
    choose(sure[1:], right[1:], risk=0.01)


@pytest.mark.parametrize("n", [60, 100, 301])
def test_as_many_errors_as_the_exact_interval_allows(n):
  wrong = np.ones(n, bool)
  confidence = np.arange(n, 0, -1).astype(np.float32)
  found = fallback.certified_threshold(confidence, wrong, risk=0.1)
  errors = int((confidence > found).sum())
  upper = [scipy.stats.beta.ppf(0.95, k + 1, n - k) for k in range(errors + 2)]
  assert upper[errors] <= 0.1 < upper[errors + 1]


def test_ties_and_nan_ask():
  confidence = np.asarray([0.5] * 100 + [np.nan] * 100, np.float32)
  wrong = np.asarray([True] * 100 + [False] * 100)
  found = fallback.conformal_threshold(confidence, wrong, risk=0.1)
  assert found == 0.5 and not (confidence > found).any()
  assert fallback.conformal_threshold(confidence, ~wrong, risk=0.1) == -np.inf


@pytest.mark.parametrize(
  "options", [{"risk": 0}, {"risk": 1}, {"risk": np.nan}]
)
def test_shares_are_checked(options):
  pair = np.ones(9, np.float32), np.zeros(9, bool)
  for choose in (fallback.conformal_threshold, fallback.certified_threshold):
    with pytest.raises(ValueError, match="risk=.*: between 0 and 1"):
      choose(*pair, **options)
  with pytest.raises(ValueError, match="delta=1: between 0 and 1"):
    fallback.certified_threshold(*pair, risk=0.5, delta=1)
