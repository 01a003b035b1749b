"""Laws of the attacks that minimise a distance, each on eight digits."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from keyjax.attacks.evasion.box_lbfgs import lbfgs
from keyjax.attacks.evasion.decision import hop_skip_jump
from keyjax.attacks.evasion.deep_fool import deepfool
from keyjax.attacks.evasion.problem import Evasion
from keyjax.attacks.evasion.saliency_pairs import jsma
from keyjax.attacks.evasion.tanh_space import carlini_wagner
from tests.attacks import toys

N = 8
IMAGES = toys.digits()[1].image[:N]
LABELS = toys.digits()[1].label[:N].copy()
TARGETS = (LABELS + 1) % 10
TARGETS[0] = LABELS[0]  # The unchanged input reaches its target,
LABELS[0] = (LABELS[0] + 1) % 10  # and is misclassified.
RNG = jax.random.key(0)

Attack = Callable[..., Evasion]
CW = functools.partial(
  carlini_wagner,
  steps=60,
  binary_search_steps=4,
  learning_rate=0.1,
  initial_constant=1.0,
)
LBFGS = functools.partial(
  lbfgs, steps=20, binary_search_steps=4, initial_constant=1.0
)
HOP = functools.partial(
  hop_skip_jump, rng=RNG, steps=3, initial_samples=50, budget=800
)
TARGETED: dict[str, Attack] = {
  "jsma logits": functools.partial(jsma, upsilon=0.3),
  "jsma softmax": functools.partial(jsma, upsilon=0.3, jacobian="softmax"),
  "carlini_wagner targeted": CW,
}
ATTACKS: dict[str, Attack] = TARGETED | {
  "deepfool l2": functools.partial(deepfool, candidates=None),
  "deepfool linf": functools.partial(deepfool, norm="linf"),
  "carlini_wagner": CW,
  "lbfgs": LBFGS,
  "hop_skip_jump l2": HOP,
  "hop_skip_jump linf": functools.partial(HOP, norm="linf"),
}


# They take as long to compile as the others; exact tests of each are elsewhere.
SLOW = (
  "jsma softmax",
  "carlini_wagner targeted",
  "lbfgs",
  "hop_skip_jump l2",
  "hop_skip_jump linf",
)
each = pytest.mark.parametrize(
  "name",
  [
    pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
    for name in ATTACKS
  ],
)


@pytest.fixture(scope="module")
def params() -> Any:
  return toys.trained()


def run(
  name: str, params: Any, inputs: Any, labels: Any, targets: Any
) -> Evasion:
  """Run an attack, which gets its targets if it needs them."""
  extra = {"targets": targets} if name in TARGETED else {}
  return ATTACKS[name](
    lambda x: toys.NET.apply(params, x), inputs, labels, **extra
  )


@functools.cache
def compiled(name: str) -> Attack:
  return jax.jit(functools.partial(run, name))


def same(found: Evasion, want: Evasion) -> None:
  np.testing.assert_array_equal(found.success, want.success)
  np.testing.assert_array_equal(found.finite, want.finite)
  np.testing.assert_allclose(found.distance, want.distance, rtol=5e-3)
  np.testing.assert_allclose(found.inputs, want.inputs, atol=1e-2)


def size(changed: np.ndarray, name: str) -> np.ndarray:
  flat = changed.reshape(N, -1)
  order = 0 if "jsma" in name else np.inf if "linf" in name else 2
  return np.linalg.norm(flat, order, axis=1)


@each
def test_result(name: str, params: Any) -> None:
  """The changed inputs are in the box, succeed, and are as far as stated."""
  found = jax.device_get(compiled(name)(params, IMAGES, LABELS, TARGETS))
  logits = toys.NET.apply(params, found.inputs)
  classes = np.asarray(logits.argmax(-1))
  hit = classes == TARGETS if name in TARGETED else classes != LABELS
  np.testing.assert_array_equal(hit, found.success)
  assert found.success.sum() >= (5 if "jsma" in name else N)
  assert (found.inputs >= 0).all() and (found.inputs <= 1).all()
  assert found.finite.all()
  want = size(found.inputs - IMAGES, name)
  np.testing.assert_allclose(found.distance, want, rtol=1e-5)
  assert found.success[0] and found.distance[0] == 0 and found.queries[0] < 3
  assert (found.distance[1:] > 0).tolist() == found.success[1:].tolist()
  assert found.inputs.dtype == np.float32 and found.queries.dtype == np.int32
  assert (found.queries[1:] > 3).all()


@each
def test_examples_are_independent(name: str, params: Any) -> None:
  """Half of the batch is replaced; the other half stays as it is."""
  want = compiled(name)(params, IMAGES, LABELS, TARGETS)
  other = toys.digits()[1].label[8:12]
  found = compiled(name)(
    params,
    np.concatenate([IMAGES[:4], toys.digits()[1].image[8:12]]),
    np.concatenate([LABELS[:4], other]),
    np.concatenate([TARGETS[:4], (other + 1) % 10]),
  )
  half = lambda result: jax.tree.map(lambda x: np.asarray(x)[:4], result)  # noqa: E731
  same(half(found), half(want))
  assert (np.asarray(found.inputs)[4:] != np.asarray(want.inputs)[4:]).any()


@each
def test_no_gradient_is_no_success(name: str, params: Any) -> None:
  """A model of zeros has one class, and gradients of zero."""
  zeros = jax.tree.map(jnp.zeros_like, params)
  labels = np.zeros(N, np.int32)
  found = compiled(name)(zeros, IMAGES, labels, labels + 1)
  assert not found.success.any() and found.finite.all()
  np.testing.assert_array_equal(found.inputs, IMAGES)


@each
def test_nan_is_no_success(name: str, params: Any) -> None:
  """Under `jax.jit`, where nothing can be raised."""
  nans = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), params)
  found = compiled(name)(nans, IMAGES, LABELS, TARGETS)
  assert not found.success.any() and not found.finite.any()
  np.testing.assert_array_equal(found.inputs, IMAGES)


@pytest.mark.parametrize(
  "name",
  [
    pytest.param(
      name, marks=[pytest.mark.slow] if name != "deepfool l2" else []
    )
    for name in ATTACKS
  ],
)
def test_sharded_is_not_sharded(name: str, params: Any) -> None:
  """With explicit axes, and one example on each of eight devices."""
  kind = AxisType.Auto if "linf" in name else AxisType.Explicit
  mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
  rows = NamedSharding(mesh, PartitionSpec("data"))
  everywhere = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
  arrays = jax.device_put((IMAGES, LABELS, TARGETS), rows)
  with jax.set_mesh(mesh):
    found = jax.jit(functools.partial(run, name))(everywhere, *arrays)
  assert found.inputs.sharding.is_equivalent_to(rows, 4)
  want = compiled(name)(params, IMAGES, LABELS, TARGETS)
  same(jax.device_get(found), jax.device_get(want))


def test_eager_is_jitted(params: Any) -> None:
  found = run("deepfool l2", params, IMAGES, LABELS, TARGETS)
  same(found, compiled("deepfool l2")(params, IMAGES, LABELS, TARGETS))


def test_small_labels_and_one_example(params: Any) -> None:
  found = run(
    "deepfool l2", params, IMAGES[1:2], LABELS[1:2].astype(np.uint8), None
  )
  want = compiled("deepfool l2")(params, IMAGES, LABELS, TARGETS)
  np.testing.assert_allclose(found.distance, want.distance[1:2], rtol=5e-3)


def test_eager_refuses_a_model_that_becomes_nan(params: Any) -> None:
  """Its logits are finite on the unchanged inputs only."""

  def broken(x: jax.Array) -> jax.Array:
    unchanged = (x == IMAGES[1:3]).all((1, 2, 3))[:, None]
    return jnp.where(unchanged, toys.NET.apply(params, x), jnp.nan)

  with pytest.raises(ValueError, match="of 2 examples were NaN or infinite"):
    deepfool(broken, IMAGES[1:3], LABELS[1:3])
