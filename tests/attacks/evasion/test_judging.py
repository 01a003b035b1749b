"""The judge knows the true model only, and the worst case is a union."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax.attacks import evasion
from keyjax.attacks.evasion.problem import Evasion
from tests.attacks.evasion import models

X = jnp.full((4, 2), 0.5)
Y = jnp.asarray([0, 0, 0, 1])  # The true model misclassifies the last one.


def true(x: jax.Array) -> jax.Array:
  """Return a model that is wrong about class 0 below a half."""
  return jnp.stack([x[:, 0] - 0.45, 0 * x[:, 0]], -1) * 40


def moved(*steps: float, **fields: jax.Array) -> Evasion:
  """Return a result that claims success, and moves the first pixel."""
  delta = jnp.asarray(steps)
  result = Evasion(
    inputs=X.at[:, 0].add(delta),
    success=jnp.full(4, True),
    distance=jnp.abs(delta),
    queries=jnp.full(4, 5, jnp.int32),
    finite=jnp.full(4, True),
  )
  return result._replace(**fields)


def test_the_true_model_decides() -> None:
  found = evasion.judged(moved(-0.1, 0.1, -0.02, 0.3), true, X, Y)
  assert found.success.tolist() == [True, False, False, True]
  np.testing.assert_allclose(found.distance, [0.1, 0.1, 0.02, 0], atol=1e-6)
  np.testing.assert_array_equal(found.inputs[3], X[3])  # Wrong unchanged.
  assert found.queries.tolist() == [5] * 4 and found.finite.all()


def test_a_target_decides() -> None:
  targets = jnp.asarray([1, 1, 0, 0])
  found = evasion.judged(
    moved(-0.1, 0.1, -0.1, -0.1), true, X, 1 - targets, targets=targets
  )
  # The last two are of their target unchanged.
  assert found.success.tolist() == [True, False, True, True]
  assert found.distance.tolist()[2:] == [0, 0]


def test_nan_is_counted_and_no_success() -> None:
  broken = moved(0.0, 0.0, 0.0, 0.0, finite=jnp.full(4, False))
  found = evasion.judged(broken, true, X, Y)
  assert found.success.tolist() == [False, False, False, True]
  assert not found.finite.any()

  def half(x: jax.Array) -> jax.Array:  # NaN where an input was changed.
    return true(x) + jnp.where(x[:, :1] == 0.5, 0, jnp.nan)

  found = evasion.judged(moved(-0.1, 0.0, -0.1, 0.0), half, X, Y)
  assert found.success.tolist() == [False, False, False, True]
  assert found.finite.tolist() == [False, True, False, True]


def test_the_worst_case_is_the_union() -> None:
  results = {
    "far": moved(-0.3, -0.3, 0.3, 0.0),
    "near": moved(-0.1, 0.1, -0.01, 0.0),
  }
  found = jax.jit(lambda r: evasion.worst_case(r, true, X, Y))(results)
  assert {k: v.success.tolist() for k, v in found.members.items()} == {
    "far": [True, True, False, True],
    "near": [True, False, False, True],
  }
  union = found.union
  assert union.success.tolist() == [True, True, False, True]
  # Nearest success; a success before none; the greatest margin of failures.
  np.testing.assert_allclose(union.distance, [0.1, 0.3, 0.01, 0], atol=1e-6)
  changes = union.inputs[:, 0] - X[:, 0]
  np.testing.assert_allclose(changes, [-0.1, -0.3, -0.01, 0], atol=1e-6)
  assert union.queries.tolist() == [10] * 4
  assert union.finite.all()


def test_a_change_outside_the_ball_is_none() -> None:
  results = {"far": moved(-0.3, -0.2, 0.3, 0.0)}
  found = evasion.worst_case(results, true, X, Y, epsilon=0.2)
  assert found.union.success.tolist() == [False, True, False, True]
  np.testing.assert_allclose(found.union.distance, [0, 0.2, 0, 0], atol=1e-6)
  np.testing.assert_array_equal(found.union.inputs[0], X[0])
  far = found.members["far"]
  assert far.success.tolist() == [False, True, False, True]


@pytest.mark.slow
def test_members_may_minimise_other_norms() -> None:
  x, y = models.inputs(), models.labels()
  near = evasion.deepfool(models.linear, x, y, norm="l2")
  results = {
    "deepfool": near,
    "fgsm": evasion.fgsm(models.linear, x, y, epsilon=0.02),
  }
  found = evasion.worst_case(results, models.linear, x, y, epsilon=0.02)
  size = evasion.problem.sizes(near.inputs - x, "linf")
  np.testing.assert_allclose(found.members["deepfool"].distance, size)
  np.testing.assert_array_equal(
    found.union.success,
    found.members["deepfool"].success | found.members["fgsm"].success,
  )
  np.testing.assert_array_equal(
    found.union.queries, near.queries + results["fgsm"].queries
  )
  assert found.union.distance.max() <= 0.02 + 1e-6


def test_inputs_can_be_sharded() -> None:
  x, y = models.inputs(), models.labels()
  results = {
    "up": evasion.fgsm(models.linear, x, y, epsilon=0.02),
    "down": evasion.fgsm(lambda x: -models.linear(x), x, y, epsilon=0.02),
  }
  judge = jax.jit(
    lambda r, x, y: evasion.worst_case(r, models.linear, x, y, epsilon=0.02)
  )
  wanted = judge(results, x, y)
  axis = jax.sharding.AxisType.Explicit
  mesh = jax.make_mesh((8,), ("batch",), axis_types=(axis,))
  with jax.set_mesh(mesh):
    spread = jax.sharding.NamedSharding(mesh, jax.P("batch"))
    found = judge(*jax.device_put((results, x, y), spread))
    assert found.union.inputs.sharding.is_equivalent_to(spread, x.ndim)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_wrong_arguments_are_refused() -> None:
  result = moved(0.0, 0.0, 0.0, 0.0)
  with pytest.raises(ValueError, match="results are empty"):
    evasion.worst_case({}, true, X, Y)
  with pytest.raises(ValueError, match="norm is 'l0'"):
    evasion.worst_case({"a": result}, true, X, Y, norm="l0")
  with pytest.raises(ValueError, match="epsilon is 0"):
    evasion.worst_case({"a": result}, true, X, Y, epsilon=0)
  with pytest.raises(ValueError, match=r"the result is of inputs \[4, 2\]"):
    evasion.judged(result, true, X[:2], Y[:2])
  with pytest.raises(ValueError, match="labels range"):
    evasion.judged(result, true, X, Y + 9)
  with pytest.raises(ValueError, match="targets range"):
    evasion.judged(result, true, X, Y, targets=Y + 9)
