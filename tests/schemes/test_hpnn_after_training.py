"""HPNN's signs in the weights of a model that was trained without a key."""

import warnings
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import keyjax
from keyjax import Secret, laws
from keyjax.schemes import hpnn, registry
from tests import trees
from tests.schemes import nnx_models

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(8, 6, 6, 2)), jnp.float32)
BATCH = {"image": X}


class Net(nn.Module):
  """A lock before a norm, one before an activation, and a plain head."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = nn.Conv(16, (3, 3), strides=2, name="conv")(x)
    x = nn.relu(nn.LayerNorm(name="norm")(x)).reshape(len(x), -1)
    x = nn.tanh(nn.Dense(24, name="dense")(x))
    return nn.Dense(3, name="head")(x)


class Embedded(nn.Module):
  """A table of tokens, which has no kernel."""

  @nn.compact
  def __call__(self, tokens: jax.Array) -> jax.Array:
    x = nn.Embed(9, 8, name="embed")(tokens)
    return nn.Dense(3, name="head")(nn.relu(x))


def linen() -> tuple[Any, Any]:
  return Net().apply, trees.fresh(Net(), X)


def of_nnx() -> tuple[Any, Any]:
  graphdef, params = nnx.split(nnx_models.Cnn())
  return keyjax.nnx_apply(graphdef), params


MODELS = {"linen": linen, "nnx": of_nnx}


@pytest.fixture(autouse=True)
def no_warning() -> Iterator[None]:
  with warnings.catch_warnings():
    warnings.simplefilter("error", UserWarning)
    yield


@pytest.mark.laws
@pytest.mark.parametrize("name", MODELS)
def test_it_keeps_the_laws_and_can_be_absorbed(name: str) -> None:
  apply_fn, params = MODELS[name]()
  scheme = keyjax.hpnn(apply_fn, units=64, after_training=True)
  laws.check(scheme, params, BATCH, apply_fn=apply_fn, absorb=keyjax.absorb)


@pytest.mark.parametrize("name", MODELS)
def test_the_key_gives_the_plain_function_in_every_bit(name: str) -> None:
  apply_fn, params = MODELS[name]()
  scheme = keyjax.hpnn(apply_fn, units=64, after_training=True)
  key, wrong = (
    scheme.keygen(Secret(bytes([i]) * 32), params, BATCH) for i in range(2)
  )
  locked = jax.jit(scheme.encrypt)(key, params)
  trees.assert_same_bits(jax.jit(scheme.decrypt)(key, locked), params)
  plain = jax.jit(apply_fn)(params, X)

  @jax.jit
  def authorized(key: Any, locked: Any) -> jax.Array:
    return keyjax.authorize(scheme, key, apply_fn)(locked, X)

  @jax.jit
  def device(key: Any, locked: Any) -> jax.Array:
    return hpnn.bind(key, apply_fn)(locked, X)

  same = np.testing.assert_array_equal
  same(authorized(key, locked), plain)
  same(device(key, locked), plain)
  same(device(wrong, locked), authorized(wrong, locked))
  for other in (authorized(wrong, locked), jax.jit(apply_fn)(locked, X)):
    assert float(jnp.abs(other - plain).max()) > 0.1
  # What is not a weight of a locked layer is as it was.
  changed = {
    path
    for path, a, b in zip(
      *keyjax.tree.flatten(params)[:2], jax.tree.leaves(locked), strict=True
    )
    if not keyjax.tree.same_bits(a, b)
  }
  modules = {hpnn.hpnn_lock.module_of(path)[0] for path in changed}
  assert modules == set(key.units) and len(modules) >= 2


def test_a_new_key_needs_no_training() -> None:
  apply_fn, params = linen()
  scheme = keyjax.hpnn(apply_fn, units=64, after_training=True)
  old, new = (scheme.keygen(Secret.generate(), params, BATCH) for _ in range(2))
  locked = keyjax.rekey(scheme, old, new, scheme.encrypt(old, params))
  trees.assert_same_bits(locked, scheme.encrypt(new, params))
  # In a chain as well, whose next part is a cipher.
  both = keyjax.chain(scheme, keyjax.deep_lock())
  old, new = (both.keygen(Secret.generate(), params, BATCH) for _ in range(2))
  locked = keyjax.rekey(both, old, new, both.encrypt(old, params))
  trees.assert_same_bits(both.decrypt(new, locked), params)


def test_the_key_is_a_file(tmp_path: Any) -> None:
  apply_fn, params = linen()
  scheme = keyjax.hpnn(apply_fn, after_training=True)
  key = scheme.keygen(Secret.generate(), params, BATCH)
  keyjax.keys.save(tmp_path / "a.key", key)
  loaded = keyjax.keys.load(tmp_path / "a.key")
  trees.assert_same_bits(loaded, key)
  assert type(loaded) is hpnn.AfterTrainingKey
  near = key.near(3, np.random.default_rng(0))
  assert int((near.bits != key.bits).sum()) == 3
  trained = keyjax.hpnn(apply_fn).keygen(Secret.generate(), params, BATCH)
  with pytest.raises(TypeError, match="rekey needs a AfterTrainingKey"):
    keyjax.rekey(scheme, key, trained, scheme.encrypt(key, params))


def test_a_layer_that_cannot_be_absorbed_is_refused() -> None:
  model = Embedded()
  tokens = jnp.asarray(RNG.integers(0, 9, (2, 5)))
  params = trees.fresh(model, tokens)
  batch = {"image": tokens}
  scheme = keyjax.hpnn(model.apply, "embed", after_training=True)
  with pytest.raises(ValueError, match="signs after training: embed .*absorb"):
    scheme.keygen(Secret.generate(), params, batch)


def test_what_was_not_compared_is_refused_unless_asked_for(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  monkeypatch.setattr(hpnn.hpnn_choice.hpnn_twin, "MOST_BYTES", 100)
  apply_fn, params = linen()
  secret = Secret.generate()
  scheme = keyjax.hpnn(apply_fn, units=9, after_training=True)
  with pytest.raises(ValueError, match="was not compared .*compare=True"):
    scheme.keygen(secret, params, BATCH)
  for compare in (True, False):
    scheme = keyjax.hpnn(
      apply_fn, units=9, compare=compare, after_training=True
    )
    assert scheme.keygen(secret, params, BATCH).bits.shape == (9,)


def test_it_is_stated() -> None:
  options = {"after_training": True}
  assert not registry.trains("hpnn", options) and registry.trains("hpnn", {})
  assert "plain model shows every sign" in registry.known_break("hpnn", options)
