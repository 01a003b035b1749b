"""Transfer matrices: of models with known weights, and of digits."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.neighbors

from keyjax.attacks import intervals
from keyjax.attacks.evasion import bim, fgsm, pgd
from keyjax.attacks.evasion.problem import Evasion, sizes
from keyjax.attacks.transfer_matrix import SIGNS, UNCHANGED, transfer_matrix
from tests.attacks import toys

RNG = jax.random.key(0)
WIDE = (-float("inf"), float("inf"))


def first(x: jax.Array) -> jax.Array:
  """Look at the first feature only."""
  return jnp.stack([-x[:, 0], x[:, 0]], -1)


def second(x: jax.Array) -> jax.Array:
  return jnp.stack([-x[:, 1], x[:, 1]], -1)


def points(n: int = 16) -> tuple[jax.Array, jax.Array]:
  """Return points of two classes, 0.3 from the boundaries of both models."""
  labels = jnp.arange(n, dtype=jnp.int32) % 2
  side = jnp.where(labels == 1, 0.3, -0.3)
  return jnp.stack([side, side], -1), labels


class Box:
  """A target that remembers its inputs, and has the first model's labels."""

  def __init__(self) -> None:
    self.asked: list[np.ndarray] = []

  def __call__(self, inputs: np.ndarray) -> np.ndarray:
    self.asked.append(inputs)
    return (inputs[:, 0] > 0).astype(np.int64)


@pytest.mark.slow
def test_models_of_other_features() -> None:
  inputs, labels = points()
  found = transfer_matrix(
    fgsm,
    {"first": first, "second": second},
    inputs,
    labels,
    epsilon=0.4,
    bounds=WIDE,
    oracles={"box": Box()},
    rng=RNG,
  )
  errors = {
    source: {target: share.error for target, share in row.items()}
    for source, row in found.items()
  }
  signs = errors.pop(SIGNS)
  assert errors == {
    "first": {"first": 1, "second": 0, "box": 1},
    "second": {"first": 0, "second": 1, "box": 0},
    UNCHANGED: {"first": 0, "second": 0, "box": 0},
  }
  assert 0 < signs["first"] == signs["box"] < 1 and 0 < signs["second"] < 1
  share = found[SIGNS]["second"]
  hits = round(share.error * 16)
  assert share[1:] == intervals.clopper_pearson(hits, 16)


@pytest.mark.slow
def test_digits() -> None:
  """What fools the network fools neighbours; random signs do not."""
  (images, labels), test = toys.digits()
  params = toys.trained()
  flat = lambda x: x.reshape(len(x), -1)  # noqa: E731
  neighbours = sklearn.neighbors.KNeighborsClassifier(3)
  neighbours.fit(flat(images), labels)
  found = transfer_matrix(
    functools.partial(bim, momentum=1.0, steps=5),
    {"network": lambda x: toys.NET.apply(params, x)},
    test.image,
    test.label,
    epsilon=0.3,
    oracles={"neighbours": lambda x: neighbours.predict(flat(x))},
    rng=RNG,
  )
  assert found["network"]["network"].low > 0.95
  assert found["network"]["neighbours"].low > found[SIGNS]["neighbours"].high
  assert found[UNCHANGED]["neighbours"].error < 0.05


def test_every_input_is_changed_away_from_its_label() -> None:
  """Where the source is wrong as well, and an attack alone does nothing."""
  inputs, labels = points()
  labels = labels.at[:4].set(1 - labels[:4])
  alone = fgsm(first, inputs, labels, epsilon=0.1, bounds=WIDE)
  assert (alone.distance[:4] == 0).all()
  box = Box()
  transfer_matrix(
    fgsm,
    {"first": first},
    inputs,
    labels,
    epsilon=0.1,
    bounds=WIDE,
    oracles={"box": box},
    rng=RNG,
  )
  moved = box.asked[0] - inputs
  away = jnp.where(labels == 1, -0.1, 0.1)
  np.testing.assert_allclose(moved[:, 0], away, atol=1e-6)
  np.testing.assert_array_equal(box.asked[2], inputs)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_random_signs_have_the_size_of_the_attack(norm: Any) -> None:
  inputs, labels = points()
  box = Box()
  transfer_matrix(
    functools.partial(pgd, steps=2),
    {"first": first},
    inputs,
    labels,
    epsilon=0.4,
    norm=norm,
    bounds=WIDE,
    oracles={"box": box},
    rng=RNG,
  )
  moved = jnp.asarray(box.asked[1]) - inputs
  np.testing.assert_allclose(sizes(moved, norm), 0.4, rtol=1e-5)
  assert len(np.unique(np.sign(moved), axis=0)) == 4


def test_an_attack_compiles_once_for_a_source() -> None:
  traces = []

  def counted(*args: Any, **options: Any) -> Evasion:
    traces.append(options["epsilon"])
    return fgsm(*args, **options)

  inputs, labels = points()
  for epsilon in (0.1, 0.2, 0.4):
    transfer_matrix(
      counted,
      {"first": first, "second": second},
      inputs,
      labels,
      epsilon=epsilon,
      bounds=WIDE,
      rng=RNG,
    )
  assert len(traces) == 2


def test_networks_of_a_model_share_a_program() -> None:
  traces = []

  def counted(*args: Any, **options: Any) -> Evasion:
    traces.append(options["epsilon"])
    return fgsm(*args, **options)

  def weighted(weights: jax.Array, x: jax.Array) -> jax.Array:
    value = x @ weights
    return jnp.stack([-value, value], -1)

  inputs, labels = points()
  models = {
    name: jax.tree_util.Partial(weighted, jnp.asarray(weights))
    for name, weights in (("a", [1.0, 0.0]), ("b", [0.0, 1.0]))
  }
  found = transfer_matrix(
    counted, models, inputs, labels, epsilon=0.4, bounds=WIDE, rng=RNG
  )
  assert len(traces) == 1
  assert found["a"]["a"].error == found["b"]["b"].error == 1
  assert found["a"]["b"].error == found["b"]["a"].error == 0


@pytest.mark.slow
def test_64_bits() -> None:
  with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
    inputs, labels = points()
    inputs = inputs.astype(jnp.float64)
    found = transfer_matrix(
      fgsm, {"a": first}, inputs, labels, epsilon=0.4, bounds=WIDE, rng=RNG
    )
    assert found["a"]["a"].error == 1


def leave(logits_fn: Any, inputs: Any, labels: Any, **options: Any) -> Evasion:
  """Move twice as far as allowed."""
  return fgsm(
    logits_fn, inputs, labels, **{**options, "epsilon": 2 * options["epsilon"]}
  )


def broken(x: jax.Array) -> jax.Array:
  """Return NaN for inputs that were changed."""
  same = (jnp.abs(jnp.abs(x) - 0.3) < 1e-3).all(-1, keepdims=True)
  return jnp.where(same, first(x), jnp.nan)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"models": {}}, "models is empty"),
    ({"models": {SIGNS: first}}, "names must differ"),
    ({"oracles": {"a": Box()}}, "names must differ"),
    ({"epsilon": 0.0}, "epsilon is 0"),
    ({"norm": "l0"}, "norm is 'l0'"),
    ({"attack": leave}, "16 changes are above epsilon"),
    ({"models": {"a": broken}}, "attack on 'a'.* NaN or infinite"),
    ({"oracles": {"b": lambda x: x[:, 0]}}, r"oracles\['b'\] returns float"),
    ({"oracles": {"b": lambda x: [0]}}, r"oracles\['b'\] returns int64\[1\]"),
  ],
)
def test_refuses(options: dict, message: str) -> None:
  inputs, labels = points()
  options = {
    "attack": fgsm,
    "models": {"a": first},
    "epsilon": 0.1,
    "bounds": WIDE,
    **options,
  }
  with pytest.raises(ValueError, match=message):
    transfer_matrix(inputs=inputs, labels=labels, rng=RNG, **options)


def test_refuses_a_target_without_finite_logits() -> None:
  inputs, labels = points()

  def fails(x: jax.Array) -> jax.Array:
    """Return NaN for what the other source makes."""
    return jnp.where(jnp.abs(x[:, :1]) > 0.35, jnp.nan, second(x))

  with pytest.raises(ValueError, match=r"models\['b'\] returns logits"):
    transfer_matrix(
      fgsm,
      {"a": lambda x: -first(x), "b": fails},
      inputs,
      1 - labels,
      epsilon=0.1,
      bounds=WIDE,
      rng=RNG,
    )
