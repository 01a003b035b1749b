"""Keyed permutations of feature maps: the twin, keys, nnx, fine-tuning."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import keyjax
from keyjax import Secret, keys, laws
from keyjax.attacks import key_space, near_keys
from keyjax.schemes import feature_permutation as scheme_file
from keyjax.schemes.feature_permutation import absorb, feature_permutation
from tests import trees

RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.random((64, 8, 8, 1)).astype(np.float32))
BATCH = {"image": IMAGES}
CHANNELS = 8


class Net(nn.Module):
  """A class for each pixel."""

  channels: int = CHANNELS
  groups: int = 1

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    x = nn.Conv(self.channels, (3, 3), name="conv")(x)
    norm = nn.BatchNorm(
      use_running_average=not train, momentum=0.9, name="norm"
    )
    x = norm(x)
    x = nn.Conv(6, (1, 1), feature_group_count=self.groups, name="mix")(
      nn.relu(x)
    )
    return nn.Conv(3, (1, 1), name="head")(nn.relu(x))


@functools.cache
def variables() -> Any:
  return trees.fresh(Net(), IMAGES)


def new_key(layers: str | None = None) -> Any:
  scheme = feature_permutation(Net().apply, layers)
  return scheme.keygen(Secret.generate(), variables(), BATCH)


def locked(key: Any, params: Any, **kwargs: Any) -> Any:
  run = scheme_file.bind(key, Net().apply)
  return run(params, IMAGES, **kwargs)


def test_the_twin_computes_the_same() -> None:
  key = new_key()
  assert sorted(key.orders) == ["conv", "mix"], "the last layer answers"
  twin = Net().apply(absorb(key, variables()), IMAGES)
  np.testing.assert_array_equal(locked(key, variables()), twin)
  # The twin is another model, and the key is what makes it.
  assert float(jnp.abs(locked(new_key(), variables()) - twin).max()) > 1e-3


def test_the_laws_hold() -> None:
  scheme = feature_permutation(Net().apply)
  laws.check(scheme, variables(), BATCH, apply_fn=Net().apply)


def test_a_position_stays_where_it_is() -> None:
  """A changed pixel changes its own surroundings alone."""
  run = scheme_file.bind(new_key(), Net().apply)
  other = IMAGES[:1].at[0, 4, 4].add(1.0)
  moved = jnp.abs(run(variables(), other) - run(variables(), IMAGES[:1]))
  rows, columns = np.nonzero(np.asarray(moved.max((0, 3))) > 1e-6)
  assert set(rows) | set(columns) <= {3, 4, 5} and len(rows) > 1


def test_a_new_key_takes_no_training() -> None:
  old, new = new_key(), new_key()
  again = old.rebind(new, variables())
  np.testing.assert_array_equal(locked(new, again), locked(old, variables()))
  trees.assert_same_bits(new.rebind(old, again), variables())


def test_near_keys_are_swaps_away() -> None:
  key = new_key()
  assert near_keys.unit(key) == "swaps"
  most = near_keys.max_distance(key)
  assert most == CHANNELS - 1 + 5
  for distance in (0, 1, 4, most):
    near = near_keys.near_key(key, distance, np.random.default_rng(1))
    near.check()
    swaps = sum(
      order.size - cycles(np.asarray(order), np.asarray(near.orders[path]))
      for path, order in key.orders.items()
    )
    assert swaps == distance


def cycles(a: np.ndarray, b: np.ndarray) -> int:
  """Return the number of cycles of the permutation from a to b."""
  step = np.argsort(a)[b]
  left, found = set(range(len(a))), 0
  while left:
    found += 1
    at = next(iter(left))
    while at in left:
      left.remove(at)
      at = int(step[at])
  return found


def test_the_key_space_is_that_of_permutations() -> None:
  want = math.log2(math.factorial(CHANNELS)) + math.log2(math.factorial(6))
  assert key_space.entropy_bits(new_key()) == pytest.approx(want)
  assert key_space.entropy_bits(new_key("conv")) == pytest.approx(
    15.3, abs=0.01
  )
  assert near_keys.random_key(new_key(), RNG).orders["mix"].size == 6


def test_a_key_file_is_read_again(tmp_path: Any) -> None:
  key = new_key()
  keys.save(tmp_path / "a.key", key)
  trees.assert_same_bits(keys.load(tmp_path / "a.key"), key)
  bad = key.replace(orders=key.orders | {"mix": jnp.zeros(6, jnp.int32)})
  with pytest.raises(ValueError, match="impossible values"):
    bad.check()


# ------------------------------------------------------------------------ nnx


class NnxNet(nnx.Module):
  def __init__(self, rngs: nnx.Rngs):
    self.conv = nnx.Conv(1, CHANNELS, (3, 3), rngs=rngs)
    self.head = nnx.Linear(CHANNELS, 3, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.head(nnx.relu(self.conv(x)))


def test_models_of_nnx_are_locked_and_absorbed() -> None:
  graphdef, params = nnx.split(NnxNet(nnx.Rngs(0)))
  apply_fn = keyjax.nnx_apply(graphdef)
  scheme = feature_permutation(apply_fn)
  key = scheme.keygen(Secret.generate(), params, BATCH)
  assert list(key.orders) == ["conv"]
  twin = apply_fn(absorb(key, params), IMAGES)
  out = scheme.bind(key, apply_fn)(params, IMAGES)
  np.testing.assert_array_equal(out, twin)
  assert not np.array_equal(out, apply_fn(params, IMAGES))


# --------------------------------------------------------------------- errors


def test_layers_that_cannot_be_locked() -> None:
  with pytest.raises(
    ValueError, match="no layer matches 'cnv'.*conv, mix, head"
  ):
    new_key("cnv")
  grouped = Net(groups=2)
  params = trees.fresh(grouped, IMAGES)
  scheme = feature_permutation(grouped.apply, "mix")
  with pytest.raises(ValueError, match="mix cannot be locked: .*in groups"):
    scheme.keygen(Secret.generate(), params, BATCH)
  # By default it is left out.
  scheme = feature_permutation(grouped.apply)
  key = scheme.keygen(Secret.generate(), params, BATCH)
  assert list(key.orders) == ["conv"]


def test_a_pass_that_does_not_fit_the_key() -> None:
  with pytest.raises(ValueError, match="apply_fn is jitted"):
    feature_permutation(jax.jit(Net().apply))
  other = Net(channels=4)
  params = trees.fresh(other, IMAGES)
  with pytest.raises(
    ValueError, match="conv is .* 8 channels: .*another model"
  ):
    scheme_file.bind(new_key("conv"), other.apply)(params, IMAGES)
  key = new_key().replace(orders={"convs": jnp.arange(8)})
  with pytest.raises(ValueError, match="did not run convs"):
    locked(key, variables())
  with pytest.raises(ValueError, match="convs has no weights to absorb"):
    absorb(key, variables())


# --------------------------------------------------------------------- breaks


LABELS = (IMAGES[..., 0] > 0.5).astype(jnp.int32)


def train(key: Any, params: Any, steps: int) -> tuple[Any, float]:
  """Train under a key; return the weights, and the loss before the last."""

  @jax.jit
  def step(params: Any) -> Any:
    def loss(weights: Any) -> Any:
      logits, new = locked(
        key, params | {"params": weights}, train=True, mutable=["batch_stats"]
      )
      nats = -jax.nn.log_softmax(logits)
      return (jax.nn.one_hot(LABELS, 3) * nats).sum(-1).mean(), new

    (value, new), grads = jax.value_and_grad(loss, has_aux=True)(
      params["params"]
    )
    weights = jax.tree.map(lambda w, g: w - 0.1 * g, params["params"], grads)
    return {"params": weights, **new}, value

  value = np.nan
  for _ in range(steps):
    params, value = step(params)
  return params, float(value)


@functools.cache
def trained() -> tuple[Any, Any]:
  """Return the key and the weights of a model that trained under it."""
  key = new_key("conv")
  return key, train(key, variables(), 60)[0]


@pytest.mark.slow
def test_fine_tuning_learns_the_permutation() -> None:
  """An attacker without the key starts from the weights, not from nothing."""
  key, params = trained()
  none = key.replace(orders={"conv": jnp.arange(CHANNELS)})
  right, wrong = train(key, params, 1)[1], train(none, params, 1)[1]
  assert wrong > 1.1 * right
  stolen = train(none, params, 20)[1]
  scratch = train(none, variables(), 20)[1]
  assert stolen < scratch and stolen < wrong


def test_one_channel_has_no_order() -> None:
  model = Net(channels=1)
  scheme = feature_permutation(model.apply, "conv")
  with pytest.raises(ValueError, match="conv: one channel .* 0 bits"):
    scheme.keygen(Secret.generate(), trees.fresh(model, IMAGES), BATCH)
