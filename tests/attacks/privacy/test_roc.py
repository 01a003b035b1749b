"""ROC curves and what is read off them."""

import numpy as np
import pytest
import sklearn.metrics

from keyjax.attacks.privacy import leakage, roc

RNG = np.random.default_rng(0)
MEMBERS = RNG.random(300) < 0.4
SCORES = {
  "all different": RNG.normal(size=300) + MEMBERS,
  "ties": (RNG.normal(size=300) + MEMBERS).round(),
  "two values": ((RNG.random(300) < 0.3) | MEMBERS).astype(np.float64),
  "infinite": np.where(RNG.random(300) < 0.2, np.inf, RNG.normal(size=300)),
}
each = pytest.mark.parametrize("name", SCORES)


@each
def test_the_curve_is_that_of_sklearn(name):
  scores = SCORES[name]
  found = roc.curve(scores, MEMBERS)
  finite = np.clip(scores, -1e9, 1e9)  # It refuses infinite scores.
  fpr, tpr, _ = sklearn.metrics.roc_curve(
    MEMBERS, finite, drop_intermediate=False
  )
  np.testing.assert_allclose(found.fpr, fpr, rtol=0, atol=1e-15)
  np.testing.assert_allclose(found.tpr, tpr, rtol=0, atol=1e-15)
  area = sklearn.metrics.roc_auc_score(MEMBERS, finite)
  assert roc.auc(found) == pytest.approx(area, abs=1e-12)


@each
def test_every_figure_is_that_of_a_loop(name):
  scores = SCORES[name]
  inside, outside = scores[MEMBERS], scores[~MEMBERS]
  found = roc.curve(scores, MEMBERS)
  pairs = [(a > b) + (a == b) / 2 for a in inside for b in outside]
  assert roc.auc(found) == pytest.approx(np.mean(pairs))
  rows = [
    (np.mean(inside >= t), np.mean(outside >= t))
    for t in [*np.unique(scores), np.inf]
  ]
  rows.append((0.0, 0.0))  # No threshold calls infinite scores others.
  for rate in (0.0, 0.001, 0.01, 0.1, 1.0):
    wanted = max(tpr for tpr, fpr in rows if fpr <= rate)
    assert roc.tpr_at(found, rate) == pytest.approx(wanted)
  wanted = max((tpr + 1 - fpr) / 2 for tpr, fpr in rows)
  assert roc.balanced_accuracy(found) == pytest.approx(wanted)
  t = np.median(scores[np.isfinite(scores)])
  predicted = scores >= t
  assert roc.at_threshold(scores, MEMBERS, t) == pytest.approx(
    sklearn.metrics.balanced_accuracy_score(MEMBERS, predicted)
  )


def hull(found):
  """Return the concave hull of a curve: float64[points, 2]."""
  kept = []
  for x, y in zip(found.fpr, found.tpr, strict=True):
    while len(kept) > 1:
      (a, b), (c, d) = kept[-2:]
      if (c - a) * (y - b) < (d - b) * (x - a):
        break
      kept.pop()
    kept.append((x, y))
  return np.array(kept)


@pytest.mark.parametrize("name", ["all different", "ties", "two values"])
def test_the_auditor_of_jax_privacy_reads_the_hull_of_the_curve(name):
  auditing = pytest.importorskip("jax_privacy.auditing")
  scores = SCORES[name]
  found = roc.curve(scores, MEMBERS)
  auditor = auditing.CanaryScoreAuditor(scores[MEMBERS], scores[~MEMBERS])
  x, y = hull(found).T
  assert auditor.attack_auroc() == pytest.approx(np.trapezoid(y, x))
  assert roc.auc(found) <= auditor.attack_auroc() + 1e-12
  for rate in (0.01, 0.1):
    most = float(auditor.tpr_at_given_fpr(rate))
    assert most == pytest.approx(np.interp(rate, x, y))
    assert roc.tpr_at(found, rate) <= most + 1e-12


def test_a_threshold_of_the_curve_is_what_it_says():
  scores = SCORES["ties"]
  found = roc.curve(scores, MEMBERS)
  for fpr, tpr, threshold in zip(*found[:3], strict=True):
    assert (scores[MEMBERS] >= threshold).mean() == pytest.approx(tpr)
    assert (scores[~MEMBERS] >= threshold).mean() == pytest.approx(fpr)


@pytest.mark.parametrize("where", ["members", "others", "some of both", "all"])
def test_nan_is_counted_and_never_helps(where):
  scores = SCORES["all different"]
  nan = {
    "members": MEMBERS,
    "others": ~MEMBERS,
    "some of both": RNG.random(300) < 0.3,
    "all": np.ones(300, bool),
  }[where] & (RNG.random(300) < (1.1 if where == "all" else 0.9))
  broken = np.where(nan, np.nan, scores)
  found, whole = roc.curve(broken, MEMBERS), roc.curve(scores, MEMBERS)
  assert found.nan == nan.sum() and found.members == MEMBERS.sum()
  assert found.fpr[-1] == found.tpr[-1] == 1
  assert roc.auc(found) < roc.auc(whole)
  assert roc.at_threshold(broken, MEMBERS, 0.5) < roc.at_threshold(
    scores, MEMBERS, 0.5
  )
  ends = [
    sklearn.metrics.roc_auc_score(MEMBERS, np.where(nan, end, scores))
    for end in (-1e9, 1e9)
  ]
  assert roc.auc(found) == pytest.approx(min(ends))
  if where == "all":
    assert roc.auc(found) == 0.5 and roc.tpr_at(found, 0.1) == 0


def test_an_fpr_that_too_few_others_resolve_is_named():
  members = np.arange(1000) < 500
  found = leakage.leak(-np.arange(1000.0), members, (0.01, 0.002, 0.001))
  assert [point.resolved for point in found.points] == [True, True, False]
  assert "too few" in leakage.describe_point(found.points[2])
  assert "too few" not in leakage.describe_point(found.points[1])


def test_intervals_contain_the_value_and_cover_the_truth():
  truth, inside = 0.7602, 0  # P(N(1, 1) > N(0, 1)), by Phi(1 / sqrt 2).
  for seed in range(40):
    rng = np.random.default_rng(seed)
    members = np.arange(200) < 100
    scores = rng.normal(size=200) + members
    found = leakage.leak(scores, members, resamples=200, seed=seed)
    for x in (found.auc, found.accuracy, *(p.tpr for p in found.points)):
      assert 0 <= x.low <= x.value <= x.high <= 1
    inside += found.auc.low <= truth <= found.auc.high
  assert 34 <= inside  # 38 are expected; fewer than 34 has a chance of 1 %.


def test_the_bootstrap_draws_members_and_others_apart():
  members = np.arange(60) < 20
  scores = RNG.normal(size=60) + members
  found = leakage.leak(scores, members, (0.1,), resamples=4000)
  rng = np.random.default_rng(1)
  areas = []
  for _ in range(4000):
    inside = rng.choice(scores[members], 20)
    outside = rng.choice(scores[~members], 40)
    areas.append((inside[:, None] > outside[None]).mean())
  low, high = np.quantile(areas, (0.025, 0.975))
  assert found.auc.low == pytest.approx(low, abs=0.015)
  assert found.auc.high == pytest.approx(high, abs=0.015)
  again = leakage.leak(scores, members, (0.1,), resamples=4000)
  assert again == found


def test_a_perfect_attack_has_an_interval():
  members = np.arange(40) < 20
  found = leakage.leak(members.astype(float), members)
  for x in (found.auc, found.accuracy, found.points[0].tpr):
    assert (x.value, x.high) == (1, 1) and 0.8 < x.low < 0.85


@pytest.mark.parametrize(
  ("scores", "members", "message"),
  [
    (np.zeros(3), np.ones(3, bool), "3 of 3 examples are members"),
    (np.zeros(3), np.zeros(3, bool), "0 of 3 examples are members"),
    (np.zeros(3), np.ones(4, bool), r"pass bool\[3\]"),
    (np.zeros(3), np.ones(3, int), r"members are int64\[3\]"),
    (np.zeros((3, 1)), np.ones(3, bool), "scores is"),
    (np.zeros(0), np.ones(0, bool), "scores is"),
    (np.array(["a", "b"]), np.ones(2, bool), "scores is"),
  ],
)
def test_wrong_arguments_are_named(scores, members, message):
  with pytest.raises(ValueError, match=message):
    roc.curve(scores, members)


def test_wrong_rates_thresholds_and_resamples_are_named():
  members = np.arange(4) < 2
  with pytest.raises(ValueError, match="rates=1.5"):
    leakage.leak(np.zeros(4), members, (1.5,))
  with pytest.raises(ValueError, match="resamples=0"):
    leakage.leak(np.zeros(4), members, resamples=0)
  with pytest.raises(ValueError, match="rate=nan"):
    roc.tpr_at(roc.curve(np.zeros(4), members), np.nan)
  with pytest.raises(TypeError, match="rates=0.01: pass several"):
    leakage.leak(np.zeros(4), members, 0.01)
  for seed in (-1, "a", 1.0):
    with pytest.raises(ValueError, match=f"seed={seed!r}: a whole number"):
      leakage.leak(np.zeros(4), members, seed=seed)
  with pytest.raises(ValueError, match="rate='a'"):
    roc.resolves(roc.curve(np.zeros(4), members), "a")
  with pytest.raises(TypeError, match="threshold='0.5': a number"):
    roc.at_threshold(np.zeros(4), members, "0.5")
  with pytest.raises(ValueError, match="threshold is NaN"):
    roc.at_threshold(np.zeros(4), members, np.nan)
