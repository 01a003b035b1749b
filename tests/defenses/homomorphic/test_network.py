"""The plain network, its folding, its packing and its parameters; no keys."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax.defenses.homomorphic import network, packing, parameters
from keyjax.defenses.homomorphic.parameters import Parameters
from keyjax.errors import ArgumentError


def params(*sizes: int, seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
  """Return params with biases that are not 0."""
  rng = np.random.default_rng(seed)
  return {
    f"dense_{i}": {
      "kernel": rng.normal(size=(m, n)) / np.sqrt(m),
      "bias": rng.normal(size=n),
    }
    for i, (m, n) in enumerate(itertools.pairwise(sizes))
  }


def evaluated(layers: Sequence[network.Layer], x: np.ndarray) -> np.ndarray:
  for i, (kernel, bias) in enumerate(layers):
    x = (x**2 if i else x) @ kernel + bias
  return x


@pytest.mark.parametrize(
  "activation", [network.SQUARE, (0.5, -1.0, 2.0), (0.0, 0.5, 0.1)]
)
def test_any_quadratic_is_the_same_network_with_squares(activation) -> None:
  made = params(5, 4, 3, 2)
  x = np.random.default_rng(1).normal(size=(7, 5))
  found = evaluated(network.squared(made, activation), x)
  want = network.apply(
    jax.tree.map(jnp.float32, made), jnp.float32(x), activation
  )
  np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-3)


def test_layers_are_in_the_order_of_their_numbers() -> None:
  one = {"kernel": np.eye(1), "bias": np.zeros(1)}
  made = {f"layer_{i}": one for i in range(9, 12)}
  made["layer_10"] = {"kernel": np.full((1, 1), 3.0), "bias": np.zeros(1)}
  assert [x.kernel.item() for x in network.squared(made)] == [1, 3, 1]


@pytest.mark.parametrize(
  ("made", "activation", "words"),
  [
    (params(3, 2), (0.0, 1.0, 0.0), "c not 0"),
    (params(3, 2), (0.0, np.inf, 1.0), "finite coefficients"),
    ({}, network.SQUARE, "end in their number"),
    ({"dense": params(3, 2)["dense_0"]}, network.SQUARE, "their number"),
    ({"dense_0": {"kernel": np.eye(2)}}, network.SQUARE, "kernel and bias"),
    (
      {**params(3, 2), "dense_1": params(4, 2)["dense_0"]},
      network.SQUARE,
      "do not fit 2 inputs",
    ),
    (
      {"d_0": {"kernel": np.eye(2), "bias": np.full(2, np.nan)}},
      network.SQUARE,
      "not finite",
    ),
  ],
)
def test_what_is_no_such_network_is_refused(made, activation, words) -> None:
  with pytest.raises(ArgumentError, match=words) as e:
    network.squared(made, activation)
  assert "\n" not in str(e.value)


def test_no_value_inside_is_above_the_bound() -> None:
  layers = network.squared(params(6, 5, 4))
  x = np.random.default_rng(0).choice([-1.0, 2.0], (2000, 6))
  hidden = np.abs(x @ layers[0].kernel + layers[0].bias).max()
  inside = max(hidden, hidden**2, np.abs(evaluated(layers, x)).max())
  bound = network.largest(layers, -1.0, 2.0)
  assert inside <= bound < 20 * inside


def test_a_bound_that_no_float_holds_is_infinite() -> None:
  layers = network.squared(params(4, *[4] * 12, 2))
  assert network.largest(layers, -9.0, 9.0) == np.inf


def shifted_sums(
  kernel: np.ndarray, x: np.ndarray, slots: int, repeats: int
) -> np.ndarray:
  """Return what the server computes, in the clear."""
  x = packing.tiled(packing.repeated(x, repeats), slots)
  total = np.zeros(slots)
  for d, diagonal in enumerate(packing.diagonals(kernel, repeats)):
    total += np.roll(x, -d) * packing.tiled(diagonal, slots)
  for step in packing.folds(kernel, repeats):
    total = total + np.roll(total, -step)
  return total


@pytest.mark.parametrize("repeat", [False, True])
@pytest.mark.parametrize(
  "shape", [(8, 8), (5, 3), (3, 5), (7, 1), (1, 6), (16, 3), (1, 1)]
)
def test_products_by_slot_are_a_matrix_product_in_every_slot(
  shape: tuple[int, int], repeat: bool
) -> None:
  rng = np.random.default_rng(0)
  kernel, x = rng.normal(size=shape), rng.normal(size=shape[0])
  repeats = packing.period(shape[1]) if repeat else 1
  found = shifted_sums(kernel, x, 64, repeats)
  np.testing.assert_allclose(found, packing.tiled(x @ kernel, 64), atol=1e-12)
  turned = {1} if len(packing.diagonals(kernel, repeats)) > 1 else set()
  width = max(packing.period(max(shape)), packing.period(shape[0]) * repeats)
  steps = turned | {*packing.folds(kernel, repeats)}
  assert steps <= set(packing.rotations(width))


def test_parameters_are_those_of_the_standard() -> None:
  for levels in (1, 3, 5, 9, 20):
    found = parameters.for_levels(levels)
    assert found.levels == levels and found.largest == 2**19
    assert sum(found.prime_bits) <= parameters.MOST_BITS[found.degree]
    smaller = parameters.MOST_BITS.get(found.degree // 2, 0)
    assert smaller < 100 + 30 * levels


@pytest.mark.parametrize(
  ("chain", "levels", "words"),
  [
    (Parameters(8192, (60, 50, 50, 60), 50), 1, "not 128-bit secure.*220"),
    (Parameters(5000, (40, 28, 40), 28), 1, "degree=5000"),
    (Parameters(8192, (60, 40, 40, 60), 40), 3, "needs 3 levels.* 4 primes"),
    (Parameters(8192, (40, 30, 20, 40), 30), 1, "the bits of the scale"),
    (Parameters(8192, (30, 30, 30, 40), 30), 1, "the first has more"),
    (Parameters(8192, (50, 30, 30, 40), 30), 1, "the last is the largest"),
    (Parameters(8192, (30, 12, 12, 30), 12), 1, "18 or more"),
  ],
)
def test_other_parameters_are_refused(chain, levels, words) -> None:
  with pytest.raises(ArgumentError, match=words) as e:
    parameters.checked(chain, levels)
  assert "\n" not in str(e.value)


def test_a_network_too_deep_for_any_ring_is_refused() -> None:
  with pytest.raises(ArgumentError, match="too deep: 27 levels") as e:
    parameters.for_levels(27)
  assert "\n" not in str(e.value)
  with pytest.raises(ArgumentError, match="levels=0"):
    parameters.for_levels(0)


@pytest.mark.parametrize(
  ("made", "activation", "words"),
  [
    ([1, 2], network.SQUARE, "params are a list: pass dense layers"),
    ({0: params(3, 2)["dense_0"]}, network.SQUARE, r"layers \[0\]: names"),
    ({"d_0": [1]}, network.SQUARE, "d_0 is a list: a dense layer has kernel"),
    (params(3, 2), (1, 2), r"activation=\(1, 2\): three coefficients"),
    (params(3, 2), 2.0, r"activation=2.0: three coefficients"),
    (params(3, 2), "abc", "coefficients are .*: pass real numbers"),
    (
      {"d_0": {"kernel": 1j * np.eye(2), "bias": np.zeros(2)}},
      network.SQUARE,
      "d_0: kernel are complex128",
    ),
  ],
)
def test_what_is_no_network_at_all_is_refused(made, activation, words) -> None:
  with pytest.raises(ArgumentError, match=words) as e:
    network.squared(made, activation)
  assert "\n" not in str(e.value)


@pytest.mark.parametrize("sizes", [(), (4,), (4, 0), (4, -1), (4, 2.5), 4])
def test_sizes_that_are_no_networks_are_refused(sizes) -> None:
  with pytest.raises(ArgumentError, match="size"):
    network.init(jax.random.key(0), sizes)


def test_a_seed_is_no_key() -> None:
  with pytest.raises(TypeError, match="rng is an int: pass jax.random.key"):
    network.init(0, (4, 2))  # type: ignore[arg-type]


def test_inputs_of_another_width_are_refused() -> None:
  made = jax.tree.map(jnp.float32, params(3, 2))
  for x in (jnp.zeros((5, 4)), jnp.zeros(3)):
    with pytest.raises(ArgumentError, match=r"dense_0 takes \[n, 3\], got"):
      network.apply(made, x)


def test_no_layers_have_no_levels_and_no_bound() -> None:
  for call in (network.levels, lambda x: network.largest(x, 0.0, 1.0)):
    with pytest.raises(ArgumentError, match="there are none"):
      call([])


@pytest.mark.parametrize(
  "given", [{"scale_bits": 30.5}, {"integer_bits": "20"}, {"levels": 2.0}]
)
def test_bits_and_levels_are_whole_numbers(given) -> None:
  with pytest.raises(ArgumentError, match="a whole number, at least 1"):
    parameters.for_levels(**{"levels": 3} | given)


def test_a_tuple_is_no_parameters() -> None:
  with pytest.raises(TypeError, match="parameters are a tuple"):
    parameters.checked((8192, (50, 30, 50), 30))  # type: ignore[arg-type]
  with pytest.raises(ArgumentError, match="prime_bits=30.0: a whole number"):
    parameters.checked(Parameters(8192, (50, 30.0, 50), 30))  # type: ignore
