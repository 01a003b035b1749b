"""The comparison of membership scores with the code of the authors."""

import numpy as np
import scipy.stats

from experiments.benchmarks.membership import scores
from keyjax.attacks.privacy import shadows

K, N, M = 16, 40, 30


def given():
  rng = np.random.default_rng(0)
  members = shadows.split(K, N)
  phi = rng.normal(size=(K + 1, N)) + members.any(0)
  p = 1 / (1 + np.exp(-phi))
  rest = rng.uniform(0.1, 0.9, (K // 2 + 1, M))
  return {
    "members": members,
    "shadow_phi": phi[:-1],
    "phi": phi[-1],
    "shadow_p": p[:-1],
    "p": p[-1],
    "rest_shadow_p": rest[:-1],
    "rest_p": rest[-1],
    "a": np.asarray(0.3),
  }


def authors(x):
  """Return what their code computes, example by example."""
  online, offline, counts = [], [], []
  everyone = np.concatenate(
    [x["shadow_phi"][~x["members"][:, j], j] for j in range(N)]
  )
  mean_z = 0.65 * x["rest_shadow_p"].mean(0) + 0.35
  for j in range(N):
    within = x["shadow_phi"][x["members"][:, j], j]
    without = x["shadow_phi"][~x["members"][:, j], j]
    densities = [
      scipy.stats.norm.logpdf(x["phi"][j], np.median(v), v.std())
      for v in (within, without)
    ]
    online.append(densities[1] - densities[0])
    spread = everyone.std()
    offline.append(
      scipy.stats.norm.logpdf(x["phi"][j], np.median(without), spread)
    )
    mean_x = 0.65 * x["shadow_p"][~x["members"][:, j], j].mean() + 0.35
    ratios = (x["p"][j] / mean_x) / (x["rest_p"] / mean_z)
    counts.append(np.mean(ratios > 1))
  names = ("generate_ours", "generate_ours_offline", "run_rmia")
  found = (online, offline, counts)
  return {k: np.asarray(v) for k, v in zip(names, found, strict=True)}


def test_scores_are_compared_on_one_scale():
  x = given()
  found = scores.pairs(x, authors(x))
  assert len(found) == 3
  for name, (ours, theirs) in found.items():
    assert len(ours) > 5, name
    np.testing.assert_allclose(ours, theirs, atol=1e-9, err_msg=name)


def test_a_difference_would_show():
  x = given()
  theirs = authors(x)
  wrong = {k: v[::-1] for k, v in theirs.items()}
  for ours, others in scores.pairs(x, wrong).values():
    assert np.abs(ours - others).max() > 0.1
