"""Attacks reach what can be computed by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax.attacks import evasion
from keyjax.attacks.evasion import (
  auto_pgd_steps,
  hyperplanes,
  square_attack,
  square_moves,
)
from tests.attacks.evasion import models

RNG = jax.random.key(0)
DUAL = {"linf": 1, "l2": 2, "l1": np.inf}


@pytest.mark.parametrize("norm", DUAL)
@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd"])
def test_linear_models_are_optimised(name, norm):
  x, y = models.inputs(), jnp.ones(8, jnp.int32)
  more = {
    "fgsm": {},
    "pgd": {"rng": RNG, "step_size": 0.05 / 4},
    "apgd": {"rng": RNG},
  }[name]
  attack = functools.partial(getattr(evasion, name), models.two, **more)
  found = jax.jit(functools.partial(attack, epsilon=0.05, norm=norm))(x, y)
  assert not found.success.any() and (found.distance > 0.04).all()
  falls = (models.two(x) - models.two(found.inputs))[:, 1]
  optimum = 0.05 * np.linalg.norm(models.weights(1)[:, 0], DUAL[norm])
  # Sparse steps over 64 coordinates end with a few of them, where one is best.
  loose = {"pgd": 0.02, "apgd": 0.2}.get(name, 0) if norm == "l1" else 0
  np.testing.assert_allclose(falls, optimum, rtol=max(loose, 1e-3))


def test_targets_are_reached_and_momentum_adds_up():
  x, y = models.inputs(), models.labels()
  targets = (y + 3) % models.CLASSES
  found = evasion.bim(
    models.linear, x, y, epsilon=0.3, targets=targets, momentum=1.0
  )
  assert found.success.all()
  np.testing.assert_array_equal(models.linear(found.inputs).argmax(-1), targets)


def test_the_schedule_of_apgd_is_the_published_one():
  windows = auto_pgd_steps._windows(100, "linf")
  assert np.flatnonzero(windows).tolist() == [21, 40, 56, 69, 79, 86, 92, 98]
  assert windows[[21, 40, 56, 98]].tolist() == [22, 19, 16, 6]
  assert np.flatnonzero(auto_pgd_steps._windows(9, "l1")).tolist() == [
    *range(9)
  ]
  found = np.flatnonzero(auto_pgd_steps._windows(100, "l1"))
  assert found.tolist() == [*range(3, 100, 4)]


def test_the_schedule_of_squares_is_the_published_one():
  def sides(n_queries, rescale, norm="linf"):
    shape = (1, 28, 28, 1)
    return square_attack._sides(shape, norm, n_queries, 0.8, rescale)

  # Published for 10,000 queries: the share halves after these.
  whole = sides(10_000, rescale=False)
  for query, share in {0: 1, 10: 1, 11: 2, 51: 4, 201: 8, 8001: 512}.items():
    assert whole[query] == max(round(28 * (0.8 / share) ** 0.5), 1)
  np.testing.assert_array_equal(sides(10_000, rescale=True), whole)
  np.testing.assert_array_equal(sides(5_000, rescale=True), whole[::2])
  np.testing.assert_array_equal(sides(5_000, rescale=False), whole[:5_000])
  odd = sides(10_000, rescale=False, norm="l2")
  assert (odd % 2 == 1).all() and odd.min() == 3 and odd.max() == 25


def test_kernels_of_squares_by_hand():
  # Rings around the middle: 1 + 1 / 4 inside, 1 / 4 next to it.
  found = square_moves._kernel(3, "l2")
  np.testing.assert_allclose(np.linalg.norm(found), 1)
  np.testing.assert_allclose(found[0] / found[0, 1], [1 / 5, 1, 1 / 5])
  assert (found[:1] > 0).all() and (found[1:] < 0).all()
  np.testing.assert_allclose(np.abs(square_moves._kernel(5, "l1")).sum(), 1)


def nearest(x, normal, gap, norm):
  """Return the smallest change to a hyperplane, in float64, by bisection."""
  weight = np.abs(normal)
  room = np.where(normal * gap > 0, x, 1 - x)

  def change(t):
    if norm == "linf":
      return np.minimum(t, room)
    if norm == "l2":
      return np.minimum(t * weight, room)
    return np.where(weight > 1 / t, room, 0)  # All but the last coordinate.

  low, high = 1e-9, 1e9
  for _ in range(200):
    middle = (low * high) ** 0.5
    short = weight @ change(middle) < abs(gap)
    low, high = (middle, high) if short else (low, middle)
  found = change(low)
  if norm == "l1":
    last = np.where((room > 0) & (found == 0), weight, 0).argmax()
    found[last] = (abs(gap) - weight @ found) / weight[last]
  return -np.sign(normal * gap) * found


@pytest.mark.parametrize("norm", DUAL)
def test_projections_on_hyperplanes_are_the_nearest(norm):
  rng = np.random.default_rng(6)
  x = rng.uniform(0, 1, 64).astype(np.float32)
  normal = rng.normal(size=64).astype(np.float32)

  gaps = (0.01, -0.01, 4.0, -4.0, 1e3)
  points, normals = (np.stack([a] * len(gaps)) for a in (x, normal))
  project = jax.jit(hyperplanes.hyperplane, static_argnums=(3, 4))
  *found, corner = project(points, normals, jnp.asarray(gaps), norm, (0.0, 1.0))
  for gap, change in zip(gaps[:-1], found, strict=True):
    wanted = nearest(x.astype(float), normal.astype(float), gap, norm)
    np.testing.assert_allclose(change, wanted, atol=1e-5)
  # Out of reach: the nearest corner.
  np.testing.assert_allclose(x + corner, normal < 0, atol=1e-6)


@pytest.mark.parametrize("norm", DUAL)
def test_fab_finds_the_distance_of_a_linear_boundary(norm):
  x, y = models.inputs(), jnp.ones(8, jnp.int32)

  def model(x):  # Its boundary is nearer than that of `two`.
    return models.two(x) + jnp.asarray([[3.0, 0.0]])

  found = jax.jit(
    functools.partial(evasion.fab, model, norm=norm, steps=20, rng=RNG)
  )(x, y)
  assert found.success.all()
  flat = np.asarray(x.reshape(8, -1), float)
  normal = models.weights(1)[:, 0].astype(float)
  order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
  for i in range(8):
    gap = (flat[i] - 0.5) @ normal + 5
    exact = np.linalg.norm(nearest(flat[i], normal, gap, norm), order)
    assert exact * (1 - 1e-3) <= found.distance[i] <= exact * 1.03
