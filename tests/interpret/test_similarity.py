"""CKA: its invariances, its debiasing, its interval."""

import numpy as np
import pytest
import scipy.stats

from keyjax.interpret import similarity


def noise(seed: int, *shape: int) -> np.ndarray:
  return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("debiased", [True, False])
def test_identical_activations_give_one_and_rotations_and_scale_do_not_matter(
  debiased,
):
  x = noise(0, 40, 60)
  turn = scipy.stats.ortho_group.rvs(60, random_state=1)
  for y in (x, 1e30 * x @ turn + 5, -x, x[:, ::-1]):
    assert similarity.linear_cka(x, y, debiased) == pytest.approx(1)
  stretched = x * np.linspace(0.01, 3, 60)
  assert similarity.linear_cka(x, stretched, debiased) < 0.99


def test_independent_activations_give_zero_unless_biased():
  pairs = [(noise(i, 30, 200), noise(100 + i, 30, 300)) for i in range(40)]
  found = [similarity.linear_cka(*pair) for pair in pairs]
  assert abs(np.mean(found)) < 3 * scipy.stats.sem(found) + 1e-3
  assert abs(np.mean(found)) < 0.02
  assert similarity.linear_cka(*pairs[0], debiased=False) > 0.8


def test_the_biased_estimate_is_the_published_one():
  x, y = noise(0, 50, 8), noise(1, 50, 5)
  x[:, 0] += y[:, 0]
  a, b = x - x.mean(0), y - y.mean(0)
  norm = np.linalg.norm
  published = norm(b.T @ a) ** 2 / (norm(a.T @ a) * norm(b.T @ b))
  found = similarity.linear_cka(x, y, debiased=False)
  assert found == pytest.approx(published)


def test_the_unbiased_hsic_is_a_mean_over_distinct_examples():
  x, y = noise(0, 7, 3), noise(1, 7, 2)
  k, l = x @ x.T, y @ y.T  # noqa: E741
  total, count = 0.0, 0
  for i in range(7):
    for j in set(range(7)) - {i}:
      for q in set(range(7)) - {i, j}:
        for r in set(range(7)) - {i, j, q}:
          total += k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q])
          count += 1
  found = similarity._unbiased(k, l) / (7 * 4)
  assert found == pytest.approx(total / count)


def test_the_interval_covers():
  shared = noise(0, 2000, 3)
  x = np.concatenate([shared, noise(1, 2000, 3)], 1)
  y = np.concatenate([shared, noise(2, 2000, 3)], 1)
  k, l = similarity.gram(x), similarity.gram(y)  # noqa: E741
  truth = similarity.cka(k, l)
  hits = 0
  for start in range(0, 2000, 100):
    part = slice(start, start + 100)
    mine = k[part, part], l[part, part]

    def value(rows, mine=mine):
      return similarity.cka(*(m[np.ix_(rows, rows)] for m in mine))

    low, high = similarity.jackknife(value, 100, 10)
    hits += low <= truth <= high
  assert hits >= 16  # Of 20; a right 95 % interval fails this in 0.3 %.


def test_bad_input():
  with pytest.raises(ValueError, match="same 4 or more examples"):
    similarity.linear_cka(noise(0, 5, 2), noise(0, 6, 2))
  with pytest.raises(ValueError, match="same 4 or more examples"):
    similarity.linear_cka(noise(0, 3, 2), noise(0, 3, 2))
  assert np.isnan(similarity.linear_cka(np.ones((9, 2)), noise(0, 9, 2)))
