"""Trees of Equinox: modules are pytrees, with functions among their leaves."""

import functools
import pathlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from keyjax import Secret, checkpoint, keyring, tree

X = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)), jnp.float32)


def model() -> Any:
  """Return a small MLP: layers, sizes and an activation function."""
  return eqx.nn.MLP(3, 2, 4, 2, key=jax.random.key(0))


def arrays() -> tuple[Any, Any]:
  """Return its arrays, and everything else."""
  return eqx.partition(model(), eqx.is_array)


def apply_fn(params: Any, x: jax.Array) -> jax.Array:
  return jax.vmap(eqx.combine(params, arrays()[1]))(x)


def loss_fn(params: Any, batch: Any) -> jax.Array:
  return jnp.square(apply_fn(params, batch["image"])).mean()


SCHEMES = {
  "deep_lock": keyjax.deep_lock,
  "counter": functools.partial(keyjax.deep_lock, "counter"),
  "keyed_noise": functools.partial(keyjax.keyed_noise, ".*weight"),
  "permutation_lock": functools.partial(keyjax.permutation_lock, ".*weight"),
  "adv_params": functools.partial(
    keyjax.adv_params, loss_fn, layers=".*weight", max_params=3, max_steps=2
  ),
}


@pytest.mark.parametrize("name", SCHEMES)
def test_schemes_lock_modules(name: str) -> None:
  scheme, params = SCHEMES[name](), arrays()[0]
  batch = {"image": X, "label": jnp.zeros(6, int)}
  key = scheme.keygen(Secret.generate(), params, batch)
  locked = scheme.encrypt(key, params)
  assert jax.tree.structure(locked) == jax.tree.structure(params)
  assert not tree.same_bits(locked, params)
  assert tree.same_bits(scheme.decrypt(key, locked), params)
  run = jax.jit(keyjax.authorize(scheme, key, apply_fn))
  assert np.allclose(run(locked, X), apply_fn(params, X), atol=1e-6)


def test_paths_are_those_of_the_attributes() -> None:
  paths = tree.flatten(arrays()[0])[0]
  assert "layers/0/weight" in paths and "layers/2/bias" in paths
  chosen = keyjax.masked(keyjax.deep_lock(), "layers/0/.*")
  key = chosen.keygen(Secret.generate(), arrays()[0], None)
  locked = chosen.encrypt(key, arrays()[0])
  assert locked.layers[0].weight.dtype == jnp.uint32
  assert locked.layers[1].weight.dtype == jnp.float32


def test_a_whole_module_keeps_what_is_no_array() -> None:
  scheme, whole = keyjax.deep_lock("counter"), model()
  key = scheme.keygen(Secret.generate(), whole, None)
  locked = scheme.encrypt(key, whole)
  assert locked.activation is whole.activation
  assert locked.layers[0].weight.dtype == jnp.uint32
  opened = scheme.decrypt(key, locked)
  assert np.array_equal(jax.vmap(opened)(X), jax.vmap(whole)(X))


def test_sealed_checkpoints_hold_modules(tmp_path: pathlib.Path) -> None:
  me = keyring.HpkePrivateKey.generate("x25519")
  params = arrays()[0]
  checkpoint.save(tmp_path / "c", params, [me.public])
  opened = checkpoint.restore(tmp_path / "c", me, like=params)
  assert isinstance(opened, eqx.nn.MLP) and tree.same_bits(opened, params)
