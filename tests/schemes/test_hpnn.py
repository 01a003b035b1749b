"""HPNN: the capacity theorem, layer selection, residual networks, errors."""

import functools
import types
import warnings
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import keyjax
from experiments import models
from keyjax import Secret
from keyjax.schemes import hpnn, hpnn_units
from tests import trees

RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.random((16, 8, 8, 1)).astype(np.float32))
LABELS = jnp.asarray(RNG.integers(0, 4, 16))
BATCH = {"image": IMAGES, "label": LABELS}


class Net(nn.Module):
  """Conv, norm, Dense: a lock before and after a norm."""

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    x = nn.Conv(6, (3, 3), strides=2, name="conv")(x)
    x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
    x = nn.relu(x).reshape(len(x), -1)
    x = nn.relu(nn.Dense(12, name="dense")(x))
    return nn.Dense(4, name="head")(x)


NET = Net()
VARIABLES = trees.fresh(NET, IMAGES)


def make(layers: str | None = None, units: int | None = 256) -> tuple[Any, Any]:
  scheme = keyjax.hpnn(NET.apply, layers, units)
  return scheme, scheme.keygen(Secret.generate(), VARIABLES, BATCH)


# --------------------------------------------------------- the theorem


@pytest.mark.parametrize("layers", [None, "norm|dense", ".*"])
def test_absorb_makes_an_equivalent_plain_model(layers: str | None) -> None:
  scheme, key = make(layers)
  locked = scheme.bind(key, NET.apply)(VARIABLES, IMAGES)
  twin = hpnn.absorb(key, VARIABLES)
  np.testing.assert_allclose(locked, NET.apply(twin, IMAGES), atol=1e-6)
  assert not np.allclose(locked, NET.apply(VARIABLES, IMAGES), atol=1e-3)
  trees.assert_same_bits(hpnn.absorb(key, twin), VARIABLES)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "adamw"])
def test_capacity_theorem_training_commutes_with_phi(optimizer: str) -> None:
  """Locked from phi(theta), plain from theta: equal losses up to rounding."""
  rules = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.05, momentum=0.9),
    "adam": optax.adam(1e-2),
    "adamw": optax.adamw(1e-2, weight_decay=0.1),
  }
  scheme, key = make()
  bound = scheme.bind(key, NET.apply)
  [plain] = losses(NET.apply, rules[optimizer], VARIABLES)
  # Unmatched starts differ, so the comparison can fail.
  locked, other = losses(
    bound, rules[optimizer], hpnn.absorb(key, VARIABLES), VARIABLES
  )
  np.testing.assert_allclose(plain, locked, rtol=2e-4)
  assert plain[-1] < 0.7 * plain[0]
  assert not np.allclose(plain, other, rtol=2e-4)


def losses(apply_fn: Any, rule: Any, *starts: Any) -> list[np.ndarray]:
  """Take 20 full-batch steps with batch statistics, as the trainer does."""

  def loss_fn(params: Any, rest: Any) -> Any:
    logits, new = apply_fn(
      {"params": params, **rest}, IMAGES, train=True, mutable=["batch_stats"]
    )
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, LABELS)
    return loss.mean(), new

  @jax.jit
  def step(params: Any, rest: Any, opt: Any) -> Any:
    (loss, rest), grads = jax.value_and_grad(loss_fn, has_aux=True)(
      params, rest
    )
    updates, opt = rule.update(grads, opt, params)
    return optax.apply_updates(params, updates), rest, opt, loss

  def run(variables: Any) -> np.ndarray:
    params = variables["params"]
    rest = {"batch_stats": variables["batch_stats"]}
    out = []
    with jax.numpy_dtype_promotion("standard"):
      opt = jax.jit(rule.init)(params)
      for _ in range(20):
        params, rest, opt, loss = step(params, rest, opt)
        out.append(float(loss))
    return np.array(out)

  return [run(variables) for variables in starts]


# ---------------------------------------------------- layers and units


def test_default_layers_are_the_hidden_ones() -> None:
  assert sorted(make()[1].units) == ["conv", "dense"]
  assert sorted(make("norm|head")[1].units) == ["head", "norm"]


@pytest.mark.parametrize(("kind", "bits"), [("TPU v4", 128), ("cpu", 256)])
def test_units_are_those_of_the_device(
  monkeypatch: pytest.MonkeyPatch, kind: str, bits: int
) -> None:
  device = types.SimpleNamespace(device_kind=kind)
  monkeypatch.setattr(hpnn.jax, "devices", lambda: [device])
  _, key = make(units=None)
  assert key.bits.size == bits
  assert make(units=7)[1].bits.size == 7


def test_units_share_a_bit_when_there_are_few() -> None:
  _, key = make(units=5)
  for units in key.units.values():
    counts = np.bincount(units, minlength=5)
    assert counts.max() - counts.min() <= 1
  signs = np.asarray(key.signs("dense"))
  for unit in range(5):
    assert len(set(signs[np.asarray(key.units["dense"]) == unit])) <= 1
  assert set(signs.tolist()) <= {1, -1}


def test_the_schedule_is_private() -> None:
  a, b = make()[1], make()[1]
  assert not np.array_equal(a.units["dense"], b.units["dense"])
  assert not np.array_equal(a.bits, b.bits)


def test_published_weights_are_not_encrypted() -> None:
  """The model trained under the lock; a wrong key runs but is wrong."""
  scheme, key = make()
  trees.assert_same_bits(scheme.encrypt(key, VARIABLES), VARIABLES)
  right, wrong = (
    scheme.bind(k, NET.apply)(VARIABLES, IMAGES) for k in (key, make()[1])
  )
  assert not np.allclose(right, wrong, atol=1e-3)


def test_absorb_keeps_every_bit_pattern() -> None:
  _, key = make()
  special = jnp.float32([1e-40, -0.0, jnp.nan, jnp.inf, 1, 2])
  variables = jax.tree.map(lambda x: x, VARIABLES)
  variables["params"]["conv"]["bias"] = special
  twice = hpnn.absorb(key, hpnn.absorb(key, variables))
  trees.assert_same_bits(twice, variables)


def test_bits_of_units_without_neurons_have_no_effect() -> None:
  scheme, key = make()  # 18 locked neurons
  used = hpnn_units.used_units(key)
  assert used.size <= 18
  idle = np.setdiff1d(np.arange(256), used)
  other = key.replace(bits=key.bits.at[idle].set(1 - key.bits[idle]))
  same, wrong = (
    scheme.bind(k, NET.apply)(VARIABLES, IMAGES) for k in (key, other)
  )
  np.testing.assert_array_equal(same, wrong)


def test_a_transposed_kernel_is_refused() -> None:
  model = nn.ConvTranspose(3, (2, 2), transpose_kernel=True, name="up")

  class Wrapped(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
      return model.copy(name="up")(x)

  variables = trees.fresh(Wrapped(), IMAGES)
  scheme = keyjax.hpnn(Wrapped().apply, ".*")
  with pytest.raises(ValueError, match="transposed kernel"):
    scheme.keygen(Secret.generate(), variables, BATCH)


# ----------------------------------------------------- residual networks


RESNET = models.create("resnet18", 4, (0.5,), (0.25,), width=4)


@functools.cache
def resnet_variables() -> Any:
  return jax.eval_shape(RESNET.init, jax.random.key(0), IMAGES)


def test_resnet_locks_inside_the_branch_without_a_warning() -> None:
  scheme = keyjax.hpnn(RESNET.apply)
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", ResourceWarning)
    key = scheme.keygen(Secret.generate(), resnet_variables(), BATCH)
  assert len(key.units) == 20  # 17 convolutions and 3 shortcuts
  assert not any("sum" in path or "head" in path for path in key.units)


def test_a_lock_after_an_identity_sum_warns() -> None:
  scheme = keyjax.hpnn(RESNET.apply, ".*/sum")
  with pytest.warns(UserWarning, match="stage_0_block_0/sum.*identity sum"):
    key = scheme.keygen(Secret.generate(), resnet_variables(), BATCH)
  assert len(key.units) == 8
  with pytest.raises(ValueError, match="no weights to absorb"):
    hpnn.absorb(key, resnet_variables())


def test_a_mask_hides_layers() -> None:
  scheme = keyjax.masked(keyjax.hpnn(NET.apply), ".*conv.*")
  key = scheme.keygen(Secret.generate(), VARIABLES, BATCH)
  assert sorted(key.units) == ["conv"]


# -------------------------------------------------------------- bad input


def test_jitted_functions_are_refused() -> None:
  with pytest.raises(ValueError, match="jitted"):
    keyjax.hpnn(jax.jit(NET.apply))
  scheme, key = make()
  for hidden in (jax.jit(NET.apply), functools.partial(jax.jit(NET.apply))):
    with pytest.raises(ValueError, match="jitted"):
      scheme.bind(key, hidden)
  # Hidden in a wrapper, a cached program would run unlocked: an error too.
  inner = jax.jit(NET.apply)
  inner(VARIABLES, IMAGES)
  with pytest.raises(ValueError, match="did not run"):
    scheme.bind(key, lambda v, x: inner(v, x))(VARIABLES, IMAGES)


def test_a_key_for_another_model() -> None:
  _, key = make()
  other = models.create("mlp", 4, (0.5,), (0.25,))
  variables = trees.fresh(other, IMAGES)
  with pytest.raises(ValueError, match="did not run conv, dense"):
    hpnn.bind(key, other.apply)(variables, IMAGES)
  wide = key.replace(units=key.units | {"dense": jnp.zeros(13, jnp.int32)})
  with pytest.raises(ValueError, match="13 neurons where the model has 12"):
    hpnn.bind(wide, NET.apply)(VARIABLES, IMAGES)


def test_bad_arguments() -> None:
  with pytest.raises(ValueError, match="units=0"):
    keyjax.hpnn(NET.apply, units=0)
  with pytest.raises(ValueError, match="no layer matches 'cov'.*conv, norm"):
    make("cov")
  with pytest.raises(
    TypeError, match="Key, got a tuple: the key is the first argument"
  ):
    hpnn.bind((), NET.apply)  # type: ignore[arg-type]


def test_the_key_shows_no_bits() -> None:
  assert "not shown" in repr(make()[1])


def test_a_key_without_a_sign_is_warned_of() -> None:
  with warnings.catch_warnings(record=True) as found:
    warnings.simplefilter("always")
    drawn = [make(units=1)[1] for _ in range(8)]
  plain = [key for key in drawn if not key.bits.any()]
  assert 0 < len(plain) < len(drawn)
  texts = [str(w.message) for w in found if "hpnn" in str(w.message)]
  assert len(texts) == len(plain)
  assert all("key of this secret changes nothing" in text for text in texts)
