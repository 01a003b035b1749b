"""Norms, projections and the checks of arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax.attacks.evasion import problem
from tests.attacks.evasion import models

NORMS = problem.NORMS


def nearest_l1(x, changed, epsilon):
  """Project by bisection, in float64."""
  x, changed = np.asarray(x, np.float64), np.asarray(changed, np.float64)
  delta = changed - x
  room = np.where(delta > 0, 1 - x, x)

  def shrunk(t):
    return np.clip(np.abs(delta) - t, 0, room)

  low, high = 0.0, np.abs(delta).max()
  if shrunk(0).sum() > epsilon:
    for _ in range(100):
      middle = (low + high) / 2
      low, high = (
        (middle, high) if shrunk(middle).sum() > epsilon else (low, middle)
      )
  return x + np.sign(delta) * shrunk(low)


@pytest.mark.parametrize("epsilon", [0.5, 8.0, 1e3])
def test_l1_projection_is_the_nearest_point_of_ball_and_box(epsilon):
  rng = np.random.default_rng(2)
  x = rng.uniform(0, 1, models.SHAPE).astype(np.float32)
  changed = x + rng.normal(size=x.shape).astype(np.float32)
  found = problem.project(jnp.asarray(x), jnp.asarray(changed), epsilon, "l1")
  wanted = [nearest_l1(a, b, epsilon) for a, b in zip(x, changed, strict=True)]
  np.testing.assert_allclose(found, wanted, atol=2e-6)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("epsilon", [0.1, 2.0, 1e3])
def test_projected_points_are_in_ball_and_box_and_stay(norm, epsilon):
  x = models.inputs()
  changed = x + jax.random.normal(jax.random.key(3), x.shape)
  once = problem.project(x, changed, epsilon, norm)
  assert problem.sizes(once - x, norm).max() <= epsilon * (1 + 1e-6)
  assert once.min() >= 0 and once.max() <= 1
  again = problem.project(x, once, epsilon, norm)
  np.testing.assert_allclose(again, once, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_random_starts_are_inside_and_differ_by_example(norm):
  x = models.inputs()
  found = problem.random_start(jax.random.key(4), x, 0.3, norm)
  size = problem.sizes(found - x, norm)
  assert size.max() <= 0.3 * (1 + 1e-5) and size.min() > 0.05
  assert (jnp.abs(found[1:] - found[:1]).max((1, 2, 3)) > 0).all()


@pytest.mark.parametrize("norm", NORMS)
def test_steepest_steps_have_norm_one_and_flat_ones_none(norm):
  gradient = jax.random.normal(jax.random.key(5), models.SHAPE)
  step = problem.steepest(gradient, norm, 0.1)
  np.testing.assert_allclose(problem.sizes(step, norm), 1, atol=1e-6)
  assert ((step * gradient).sum((1, 2, 3)) > 0).all()
  flat = problem.steepest(jnp.zeros_like(gradient), norm, 0.1)
  assert (flat == 0).all()


def test_logits_that_are_not_finite_are_no_success():
  logits = jnp.asarray([[0.0, 1.0], [jnp.nan, 1.0], [jnp.inf, 1.0]])
  found = problem.misclassified(logits, jnp.asarray([0, 1, 1], jnp.uint8))
  assert found.tolist() == [True, False, False]


def test_random_keys_of_examples_are_taken_as_they_are():
  rngs = problem.example_rngs(jax.random.key(0), 8)
  assert (problem.example_rngs(rngs, 8) == rngs).all()
  legacy = problem.example_rngs(jax.random.PRNGKey(0), 8)
  assert (jax.random.key_data(legacy) == jax.random.key_data(rngs)).all()


def cases():
  x, y = models.inputs(), models.labels()
  none = {"logits_fn": models.linear, "inputs": x, "labels": y}
  yield "norm is 'l0'", none | {"norm": "l0"}
  yield "has linf", none | {"norm": "l2", "norms": ("linf",)}
  for epsilon in (0.0, -1.0, np.nan, np.inf):
    yield "finite and above 0", none | {"epsilon": epsilon}
  yield "pass one number", none | {"epsilon": np.ones(8)}
  yield "pass float32", none | {"inputs": x.astype(jnp.bfloat16)}
  yield "pass float32", none | {"inputs": (x * 255).astype(jnp.uint8)}
  yield "pass an array", none | {"inputs": x.tolist()}
  yield "n >= 1", none | {"inputs": x[:0], "labels": y[:0]}
  yield "n >= 1", none | {"inputs": jnp.ones(8)}
  yield "outside the bounds", none | {"inputs": x + 1}
  yield "outside the bounds", none | {"inputs": x, "bounds": (0.5, 1.0)}
  yield "outside the bounds", none | {"inputs": x.at[0].set(jnp.nan)}
  # The least value of so many is not NaN, as XLA computes it.
  large = jnp.zeros((400, *x.shape[1:])).at[:, 0].set(jnp.nan)
  yield "NaN or infinite", none | {"inputs": large}
  yield "lower one must come first", none | {"bounds": (1.0, 0.0)}
  yield "labels are", none | {"labels": y[:3]}
  yield "labels are", none | {"labels": y.astype(jnp.float32)}
  yield "labels are", none | {"labels": y.tolist()}
  yield "classes 0 to 9", none | {"labels": y + 10}
  yield "classes 0 to 9", none | {"labels": y - 10}
  yield "targets: 8 of 8", none | {"targets": y}
  yield "targets are", none | {"targets": y[:, None]}
  yield "classes 0 to 9", none | {"targets": y + 10}
  functions = {
    "expected": lambda x: x.sum((1, 2, 3)),
    "2 or more classes": lambda x: models.linear(x)[:, :1],
    "expected floats": lambda x: models.linear(x).astype(jnp.int32),
    "fails on float32": lambda x: x @ jnp.ones((3, 3)),
    "probabilities": lambda x: jax.nn.softmax(models.linear(x)),
    "NaN or infinite": lambda x: models.linear(x) * jnp.nan,
  }
  for message, function in functions.items():
    yield message, none | {"logits_fn": function}


def test_wrong_arguments_are_refused():
  for message, given in cases():
    with pytest.raises(ValueError, match=message) as error:
      problem.check(**given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32"])
def test_right_arguments_pass(dtype):
  x, y = models.inputs(), models.labels().astype(dtype)
  targets = (models.labels() + 1) % models.CLASSES
  problem.check(models.linear, x, y, epsilon=0.1, norm="l1", targets=targets)
  problem.check(models.linear, np.asarray(x), np.asarray(y))


def test_traced_values_are_not_checked_but_shapes_are():
  x, y = models.inputs(), models.labels()

  @jax.jit
  def check(x, y):
    problem.check(models.linear, x, y, epsilon=x[0, 0, 0, 0])
    return x

  check(x + 5, y + 10)
  with pytest.raises(ValueError, match="labels are"):
    check(x, y[:3])


def test_nan_on_the_way_is_refused():
  result = problem.Evasion(*[jnp.asarray([True, False, False])] * 5)
  with pytest.raises(ValueError, match="pgd: .* of 2 of 3 examples"):
    problem.refuse_nan(result, "pgd")
  jax.jit(lambda x: problem.refuse_nan(x, "pgd"))(result)
