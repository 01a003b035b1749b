"""LiRA, RMIA and baselines, against the papers' formulas."""

import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from keyjax.attacks.privacy import baselines, lira, rmia, roc, shadows, signals
from tests.attacks.privacy import models

K, N, M, C = 12, 30, 17, 4
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, C, N)
Z_LABELS = RNG.integers(0, C, M)
MEMBERS = RNG.random((K, N)) < 0.5
MEMBERS[:2], MEMBERS[2:4] = True, False  # At least 2 each, of unequal numbers.
IN_TARGET = RNG.random(N) < 0.5
LIFT = 2.0 * np.eye(C)[LABELS]
SHADOWS = 3 * RNG.normal(size=(K, N, C)) + LIFT * MEMBERS[..., None]
TARGET = 3 * RNG.normal(size=(N, C)) + LIFT * IN_TARGET[:, None]
Z_SHADOWS, Z_TARGET = RNG.normal(size=(K, M, C)), RNG.normal(size=(M, C))
PHIS = signals.log_odds(SHADOWS, LABELS)
PHI = signals.log_odds(TARGET, LABELS)
LOGS = (
  signals.log_confidence(TARGET, LABELS),
  signals.log_confidence(SHADOWS, LABELS),
  MEMBERS,
  signals.log_confidence(Z_TARGET, Z_LABELS),
  signals.log_confidence(Z_SHADOWS, Z_LABELS),
)
CLOSE = {"rtol": 1e-11, "atol": 1e-11}


def test_phi_is_the_formula_and_survives_what_overflows():
  wanted = [models.phi(*row) for row in zip(TARGET, LABELS, strict=True)]
  np.testing.assert_allclose(PHI, wanted, **CLOSE)
  huge = np.array([[3e4, 0, -3e4], [-3e38, 3e38, 0]], np.float32)
  found = signals.log_odds(huge, np.array([0, 0]))
  np.testing.assert_allclose(found, [3e4, -6e38], rtol=1e-6)
  # A probability of 1 in float32 and float64 still differs from a surer one.
  sure = signals.log_odds(np.array([[40.0, 0, 0], [50.0, 0, 0]]), [0, 0])
  np.testing.assert_allclose(np.diff(sure), 10)
  logs = signals.log_probabilities(TARGET)
  np.testing.assert_allclose(signals.log_odds(logs, LABELS), PHI, **CLOSE)


def test_bad_rows_are_nan_and_say_nothing_of_others():
  z = TARGET.copy()
  z[0, 1], z[1, 2], z[2] = np.nan, np.inf, -np.inf
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    for found in (
      signals.log_odds(z, LABELS),
      signals.log_confidence(z, LABELS),
      baselines.loss(z, LABELS),
      baselines.gap(z, LABELS),
      lira.scores(signals.log_odds(z, LABELS), PHIS, MEMBERS),
      rmia.scores(signals.log_confidence(z, LABELS), *LOGS[1:]),
    ):
      assert np.isnan(found[:3]).all() and np.isfinite(found[3:]).all()
  assert roc.curve(baselines.loss(z, LABELS), IN_TARGET).nan == 3


@pytest.mark.parametrize("variance", ["example", "fixed", "pooled"])
@pytest.mark.parametrize("online", [True, False])
def test_what_is_beyond_all_densities_is_the_greatest_or_the_least(
  online, variance
):
  x = PHI.copy()
  x[:4] = np.inf, -np.inf, 1e200, -1e200
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    found = lira.scores(x, PHIS, MEMBERS, online=online, variance=variance)
  assert not np.isnan(found).any() and np.isfinite(found[4:]).all()
  assert found[0] == np.inf and found[1] == -np.inf
  assert found[2] > found[4:].max() and found[3] < found[4:].min()


def test_shadow_models_beyond_all_densities_are_refused():
  with pytest.raises(ValueError, match="whose squares no float holds"):
    lira.scores(PHI, PHIS * 1e200, MEMBERS)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_floats_of_16_bits_are_floats(dtype):
  given = jnp.asarray(TARGET, dtype)
  wide = np.asarray(given).astype(np.float64)
  for read in (
    signals.log_odds,
    signals.log_confidence,
    baselines.gap,
    baselines.loss,
  ):
    np.testing.assert_array_equal(read(given, LABELS), read(wide, LABELS))


@pytest.mark.parametrize("center", ["median", "mean"])
@pytest.mark.parametrize("variance", ["example", "fixed"])
def test_lira_is_the_papers_ratio(variance, center):
  options = {"variance": variance, "center": center}
  wanted = models.lira(PHI, PHIS, MEMBERS, True, variance == "fixed", center)
  found = lira.scores(PHI, PHIS, MEMBERS, **options)
  np.testing.assert_allclose(found, wanted, **CLOSE)
  # The paper's offline score is P(Z <= phi), here the quantile of that.
  wanted = models.lira(PHI, PHIS, MEMBERS, False, variance == "fixed", center)
  found = lira.scores(PHI, PHIS, MEMBERS, online=False, **options)
  np.testing.assert_allclose(scipy.stats.norm.cdf(found), wanted, **CLOSE)


def test_lira_with_the_pooled_deviation():
  found = lira.scores(PHI, PHIS, MEMBERS, variance="pooled", center="mean")
  wanted = []
  sides = MEMBERS, ~MEMBERS
  means = [np.array([PHIS[s[:, j], j].mean() for j in range(N)]) for s in sides]
  spreads = [
    np.sqrt(np.mean((PHIS - m[None])[s] ** 2))
    for s, m in zip(sides, means, strict=True)
  ]
  logs = [
    scipy.stats.norm(m, s).logpdf(PHI)
    for m, s in zip(means, spreads, strict=True)
  ]
  wanted = logs[0] - logs[1]
  np.testing.assert_allclose(found, wanted, **CLOSE)


def test_lira_averages_the_likelihoods_of_several_queries():
  more = RNG.normal(size=(K, N)), RNG.normal(size=N)
  both = np.stack([PHIS, more[0]], -1), np.stack([PHI, more[1]], -1)
  found = lira.scores(both[1], both[0], MEMBERS)
  wanted = lira.scores(PHI, PHIS, MEMBERS) + lira.scores(
    more[1], more[0], MEMBERS
  )
  np.testing.assert_allclose(found, wanted / 2, **CLOSE)


def test_lira_where_all_shadow_models_agree():
  phis = np.where(MEMBERS, 5.0, 1.0)
  found = lira.scores(np.where(IN_TARGET, 5.0, 1.0), phis, MEMBERS)
  assert np.isfinite(found).all()
  assert ((found > 0) == IN_TARGET).all()


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize(("gamma", "a"), [(2.0, 0.3), (1.0, 1.0), (1.5, 0.0)])
def test_rmia_is_the_papers_share(online, gamma, a):
  target, references, members, z_target, z_references = LOGS
  wanted = models.rmia(
    np.exp(target),
    np.exp(references),
    members,
    np.exp(z_target),
    np.exp(z_references),
    online,
    gamma,
    a,
  )
  found = rmia.scores(*LOGS, online=online, gamma=gamma, a=a)
  np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)
  assert len(np.unique(found)) > 5


def test_rmia_needs_one_model_with_and_one_without():
  found = rmia.scores(
    LOGS[0], LOGS[1][1:3], MEMBERS[1:3], LOGS[3], LOGS[4][1:3]
  )
  assert roc.auc(roc.curve(found, IN_TARGET)) > 0.55


def test_an_unknown_answer_for_the_population_is_not_dominated():
  z = LOGS[3].copy()
  z[:5] = np.nan
  found = rmia.scores(*LOGS[:3], z, LOGS[4])
  without = rmia.scores(*LOGS[:3], z[5:], LOGS[4][:, 5:])
  np.testing.assert_allclose(found, without * (M - 5) / M)
  np.testing.assert_array_less(found, rmia.scores(*LOGS) + 1e-12)


def test_baselines_are_what_they_say():
  right = TARGET.argmax(1) == LABELS
  np.testing.assert_array_equal(baselines.gap(TARGET, LABELS), right)
  inside, outside = right[IN_TARGET].mean(), right[~IN_TARGET].mean()
  accuracy = roc.at_threshold(baselines.gap(TARGET, LABELS), IN_TARGET, 1.0)
  assert accuracy == pytest.approx((1 + inside - outside) / 2)
  p = models.probabilities(TARGET)[np.arange(N), LABELS]
  np.testing.assert_allclose(baselines.loss(TARGET, LABELS), np.log(p), **CLOSE)


def test_lira_beats_the_loss_on_what_it_is_for():
  """Examples differ in difficulty: a threshold for all of them is blunt."""
  rng = np.random.default_rng(1)
  ease = 5 * rng.normal(size=400)
  members = np.concatenate([shadows.split(32, 400), rng.random((1, 400)) < 0.5])
  phis = ease[None] + 2 * members + rng.normal(size=members.shape)
  found = lira.scores(phis[-1], phis[:-1], members[:-1])
  plain = roc.auc(roc.curve(phis[-1], members[-1]))
  assert roc.auc(roc.curve(found, members[-1])) > 0.88 > 0.7 > plain


@pytest.mark.parametrize(
  ("attack", "message"),
  [
    (lambda: signals.log_odds(TARGET, LABELS + 1), "labels range from 1 to 4"),
    (lambda: signals.log_odds(TARGET, LABELS[1:]), r"pass integers, \[30\]"),
    (lambda: signals.log_odds(TARGET, LABELS * 1.0), "labels are float64"),
    (lambda: signals.log_odds(TARGET[:, :1], LABELS), "2 or more classes"),
    (lambda: signals.log_odds(TARGET.astype(int), LABELS), "pass floats"),
    (lambda: baselines.gap(SHADOWS, LABELS), "logits is float64"),
    (lambda: lira.scores(PHI[1:], PHIS, MEMBERS), r"shape \(29,\)"),
    (lambda: lira.scores(PHI, PHIS, MEMBERS[1:]), r"pass bool\[12, 30\]"),
    (lambda: lira.scores(PHI, PHIS, MEMBERS * 1), "members are int64"),
    (lambda: lira.scores(PHI, PHIS[:3], MEMBERS[:3]), "of 3 shadow models wit"),
    (lambda: lira.scores(PHI, PHIS, MEMBERS & False), "0 of 12 .* with it"),
    (lambda: lira.scores(PHI, PHIS * np.nan, MEMBERS), "NaN or infinite"),
    (lambda: lira.scores(PHI, PHIS, MEMBERS, variance="none"), "variance='no"),
    (lambda: lira.scores(PHI, PHIS, MEMBERS, center="mode"), "center='mode'"),
    (lambda: rmia.scores(*LOGS, gamma=0.5), "gamma=0.5"),
    (lambda: rmia.scores(*LOGS, a=2), "a=2"),
    (lambda: rmia.scores(-LOGS[0], *LOGS[1:]), "values above 0"),
    (lambda: rmia.scores(*LOGS[:4], LOGS[4][1:]), "the same k models"),
    (lambda: rmia.scores(*LOGS[:2], MEMBERS | True, *LOGS[3:]), "without it"),
    (lambda: rmia.scores(LOGS[0], LOGS[1] * np.nan, *LOGS[2:]), "references"),
  ],
)
def test_wrong_arguments_are_named(attack, message):
  with pytest.raises(ValueError, match=message) as caught:
    attack()
  assert "\n" not in str(caught.value)
