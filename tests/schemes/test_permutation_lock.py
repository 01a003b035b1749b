"""The permutation lock: what moves, what stays, and what shows."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import keyjax
from keyjax import Secret, tree

RNG = np.random.default_rng(0)
PARAMS = {
  "conv": {"kernel": jnp.asarray(RNG.normal(size=(2, 2, 3, 5)), jnp.float32)},
  "dense": {
    "kernel": jnp.asarray(RNG.integers(-9, 9, (6, 4)), jnp.int8),
    "bias": jnp.asarray(RNG.normal(size=4), jnp.float32),
  },
}


def locked(**options):
  scheme = keyjax.permutation_lock(**options)
  key = scheme.keygen(Secret.generate(), PARAMS, None)
  return scheme, key, scheme.encrypt(key, PARAMS)


def test_rows_and_columns_move_together() -> None:
  scheme, key, found = locked()
  kernel = np.asarray(PARAMS["conv"]["kernel"])
  rows = key.orders["conv/kernel:inputs"]
  columns = key.orders["conv/kernel:outputs"]
  want = kernel[:, :, np.asarray(rows)][..., np.asarray(columns)]
  assert (np.asarray(found["conv"]["kernel"]) == want).all()
  assert found["dense"]["kernel"].dtype == jnp.int8
  assert tree.same_bits(found["dense"]["bias"], PARAMS["dense"]["bias"])
  assert tree.same_bits(scheme.decrypt(key, found), PARAMS)


@pytest.mark.parametrize("axis", ["inputs", "outputs"])
def test_one_axis_alone(axis: str) -> None:
  scheme, key, found = locked(axes=(axis,))
  assert all(name.endswith(axis) for name in key.orders)
  kernel, moved = PARAMS["conv"]["kernel"], found["conv"]["kernel"]
  kept = -1 if axis == "inputs" else -2
  # Sorted along the permuted axis, nothing changed.
  other = {-1: -2, -2: -1}[kept]
  assert (jnp.sort(kernel, other) == jnp.sort(moved, other)).all()
  assert tree.same_bits(scheme.decrypt(key, found), PARAMS)


def test_values_and_norms_are_public() -> None:
  _, _, found = locked()
  for name in ("conv", "dense"):
    a, b = PARAMS[name]["kernel"], found[name]["kernel"]
    assert sorted(np.ravel(a).tolist()) == sorted(np.ravel(b).tolist())


def test_a_changed_value_opens_changed() -> None:
  """Nothing is authenticated, and a value is moved along."""
  scheme, key, found = locked()
  kernel = found["dense"]["kernel"].at[0, 0].set(99)
  forged = found | {"dense": found["dense"] | {"kernel": kernel}}
  opened = scheme.decrypt(key, forged)["dense"]["kernel"]
  changed = np.asarray(opened != PARAMS["dense"]["kernel"])
  assert changed.sum() == 1 and int(opened[changed][0]) == 99


def test_near_keys_count_swaps() -> None:
  _, key, _ = locked()
  rng = np.random.default_rng(3)
  assert key.max_distance() == 2 + 4 + 5 + 3
  for distance in (0, 1, 7, 14):
    near = key.near(distance, rng)
    moved = sum(
      _swaps(np.asarray(key.orders[name]), np.asarray(near.orders[name]))
      for name in key.orders
    )
    assert moved == distance
    near.check()
  bits = sum(float(np.log2(_factorial(n))) for n in (3, 5, 6, 4))
  assert key.entropy_bits() == pytest.approx(bits)


def _factorial(n: int) -> int:
  return 1 if n < 2 else n * _factorial(n - 1)


def _swaps(a: np.ndarray, b: np.ndarray) -> int:
  """Return the least number of swaps between two permutations."""
  move = np.argsort(a)[b]
  left, cycles = set(range(len(a))), 0
  while left:
    cycles += 1
    at = left.pop()
    while (at := int(move[at])) in left:
      left.remove(at)
  return len(a) - cycles


def test_a_damaged_order_is_named() -> None:
  _, key, _ = locked()
  orders = dict(key.orders)
  name = "dense/kernel:inputs"
  orders[name] = orders[name].at[0].set(orders[name][1])
  with pytest.raises(ValueError, match="dense/kernel:inputs"):
    key.replace(orders=orders).check()


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"axes": ()}, r"axes=\(\): one or both of inputs, outputs"),
    ({"axes": ("rows",)}, "one or both of inputs, outputs"),
    ({"axes": ("inputs", "inputs")}, "one or both of inputs, outputs"),
    ({"layers": "("}, "is not a regular expression"),
  ],
)
def test_bad_options(options, message: str) -> None:
  with pytest.raises(ValueError, match=message):
    keyjax.permutation_lock(**options)


def test_a_tree_without_kernels_is_refused() -> None:
  with pytest.raises(
    ValueError, match=r"no leaf of layers='\.\*kernel' has two"
  ):
    keyjax.permutation_lock().keygen(
      Secret.generate(), {"kernel": jnp.ones(4)}, None
    )
  one = {"kernel": jnp.ones((1, 1))}
  with pytest.raises(ValueError, match="two axes"):
    keyjax.permutation_lock().keygen(Secret.generate(), one, None)


def test_a_wrong_tree_is_named() -> None:
  scheme, key, found = locked()
  other = found | {"dense": {"kernel": found["dense"]["kernel"][:5]}}
  with pytest.raises(ValueError, match="this key is for another tree"):
    scheme.decrypt(key, other)
  shape = jax.tree.map(lambda x: x[..., :-1], found)
  with pytest.raises(ValueError, match="conv/kernel is float32"):
    scheme.decrypt(key, shape)


def test_an_order_that_moves_nothing_is_warned_of() -> None:
  params = {"kernel": jnp.arange(2.0).reshape(2, 1)}
  scheme = keyjax.permutation_lock()
  same = set()
  for byte in range(16):
    with warnings.catch_warnings(record=True) as found:
      warnings.simplefilter("always")
      key = scheme.keygen(Secret(bytes([byte]) * 32), params, None)
    same.add(tree.same_bits(scheme.encrypt(key, params), params))
    texts = [str(w.message) for w in found]
    assert len(texts) == tree.same_bits(scheme.encrypt(key, params), params)
    assert all("permutation_lock: the key of this" in text for text in texts)
  assert same == {True, False}


def test_opened_params_run_with_inputs_of_a_mesh() -> None:
  """No one put the params on a device, so `decrypt` does not either."""
  scheme, key, found = locked()
  opened = scheme.decrypt(key, found)
  mesh = jax.make_mesh((8,), ("batch",))
  x = jax.device_put(jnp.ones((8, 5)), NamedSharding(mesh, P("batch")))
  run = jax.jit(lambda p, x: x @ p["conv"]["kernel"][0, 0].T)
  assert run(opened, x).shape == (8, 3)
  place = NamedSharding(mesh, P())
  put = scheme.encrypt(key, jax.device_put(PARAMS, place))
  assert put["conv"]["kernel"].sharding == place
