"""Poison against support vector machines: its gradient, and its harm."""

import functools

import jax
import numpy as np
import pytest
import sklearn.svm

from keyjax.attacks.poisoning import svm

RNG = jax.random.key(0)


def solve(gram: np.ndarray, labels: np.ndarray) -> svm.Dual:
  machine = sklearn.svm.SVC(C=1.0, kernel="precomputed", tol=1e-9)
  machine.fit(gram, labels)
  alpha = np.zeros(len(labels))
  alpha[machine.support_] = np.abs(machine.dual_coef_[0])
  return svm.Dual(alpha, float(machine.intercept_[0]))


@functools.cache
def clouds() -> tuple[np.ndarray, ...]:
  """Return two overlapping clouds for training, validation and test."""
  rng = np.random.default_rng(0)
  found = []
  for n in (25, 100, 200):
    y = np.where(np.arange(n) % 2, 1, -1)
    x = rng.normal(0.5, 0.12, (n, 12)) + 0.12 * y[:, None] * (np.arange(12) < 2)
    found += [5 * np.clip(x, 0, 1), y]
  return tuple(found)


def problem(kernel: svm.Kernel) -> svm._Problem:
  x, y, v, w, *_ = (np.asarray(a, np.float64) for a in clouds())
  grams = kernel.gram(x, x), kernel.gram(v, x)
  return svm._Problem(x, y, v, w, kernel, solve, 1.0, *grams)


@pytest.mark.parametrize("gamma", [0.0, 0.2])
def test_the_gradient_is_that_of_finite_differences(gamma: float) -> None:
  given = problem(svm.Kernel(gamma))
  point = np.linspace(4.0, 1.5, 12)
  _, slope = svm.loss_and_gradient(given, point, -1.0)

  def loss(x: np.ndarray) -> float:
    return svm.loss_and_gradient(given, x, -1.0)[0]

  steps = 1e-2 * np.eye(12)
  want = [(loss(point + e) - loss(point - e)) / 2e-2 for e in steps]
  assert np.abs(want).max() > 0.5
  np.testing.assert_allclose(slope, want, rtol=0.02, atol=0.01)


@pytest.mark.parametrize("gamma", [0.0, 0.2])
def test_a_kernel_is_that_of_scikit_learn(gamma: float) -> None:
  x, _, v, *_ = clouds()
  want = sklearn.metrics.pairwise.rbf_kernel(x, v, gamma / 2) if gamma else (
    sklearn.metrics.pairwise.linear_kernel(x, v)
  )  # fmt: skip
  np.testing.assert_allclose(svm.Kernel(gamma).gram(x, v), want, atol=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.2])
def test_optimised_points_do_more_than_clones(gamma: float) -> None:
  x, y, v, w, t, u = clouds()
  kernel = svm.Kernel(gamma)
  found = svm.attack(
    x, y, v, w, solve=solve, cost=1.0, kernel=kernel, points=3, step=0.5,
    bounds=(0.0, 5.0), rng=RNG,
  )  # fmt: skip

  def error(points: np.ndarray) -> float:
    a, b = np.vstack([x, points]), np.append(y, found.label[: len(points)])
    machine = solve(kernel.gram(a, a), b.astype(float))
    scores = kernel.gram(t, a) @ (machine.alpha * b) + machine.bias
    return float((np.sign(scores) != u).mean())

  assert error(found.point) > error(found.start) + 0.02
  assert error(found.start) < error(found.point[:0]) + 0.08
  assert (found.label == -1).all() and found.point.shape == (3, 12)
  assert 0 <= found.point.min() and found.point.max() <= 5
  for loss in found.loss:
    assert loss.max() > loss[0], "the ascent rises"
  for start in found.start:  # Of the attacked class.
    assert (y[(x.astype(np.float32) == np.float32(start)).all(1)] == 1).all()


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    ({"labels": np.zeros(25, int)}, "labels of inputs are int64"),
    ({"labels": np.ones(25, int)}, "both at least once"),
    ({"inputs": np.full((25, 12), np.nan)}, "inputs.0. is not finite"),
    ({"inputs": np.ones((24, 12))}, "inputs are 24, and there are 25"),
    ({"held": np.ones((100, 2, 2))}, "held are float32"),
    ({"held": np.ones((100, 2))}, "held have 2 features, and inputs 12"),
    ({"points": 20}, "points=20: class 1 has 12 points to clone"),
    ({"cost": 0.0}, "cost=0.0"),
    ({"attacked": 2}, "class 2 has 0 points"),
  ],
)
def test_bad_input_is_refused(changed, message) -> None:
  x, y, v, w, *_ = clouds()
  given = {"inputs": x, "labels": y, "held": v, "held_labels": w}
  options = {"solve": solve, "cost": 1.0, "rng": RNG}
  with pytest.raises(ValueError, match=message):
    svm.attack(**(given | options | changed))
  with pytest.raises(TypeError, match="svm: solve"):
    svm.attack(**(given | options | {"solve": 3}))
