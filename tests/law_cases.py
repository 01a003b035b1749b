"""What the tests of the laws share: schemes, a model, a batch."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import keyjax
from keyjax import Scheme, tree
from tests import trees


class Net(nn.Module):
  """A model for the schemes that bind."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = nn.relu(nn.Conv(4, (2, 2), strides=2, name="conv")(x))
    return nn.Dense(3, name="head")(x.reshape(len(x), -1))


IMAGES = jnp.asarray(
  np.random.default_rng(0).random((8, 8, 8, 1)).astype(np.float32)
)


BATCH = {"image": IMAGES}


def rolled() -> Scheme:
  """A permutation of each row: with a XOR it does not commute."""

  @jax.jit
  def roll(x: jax.Array, shift: jax.Array) -> jax.Array:
    # No leaf is cut along its last axis.
    return tree.alike(jnp.roll(x, shift, axis=-1) if x.ndim else x, x)

  def move(key: jax.Array, params: Any, sign: int) -> Any:
    return jax.tree.map(
      lambda x: roll(x, sign * key) if tree.lockable(x) else x,
      params,
      is_leaf=lambda x: isinstance(x, tree.Hidden),
    )

  return Scheme(
    keygen=lambda secret, params, batch: jnp.asarray(
      1 + secret.derive("rolled", 1)[0] % 6
    ),
    encrypt=functools.partial(move, sign=1),
    decrypt=functools.partial(move, sign=-1),
  )


adv = functools.partial(
  keyjax.adv_params, trees.loss, loss_threshold=1e6, max_steps=3, max_params=5
)


# Schemes over parameters. A cipher leaves words; `locks` says which leaves.
TREE_SCHEMES = {
  "identity": (keyjax.identity, lambda path: False),
  "deep_lock_128": (keyjax.deep_lock, lambda path: True),
  "deep_lock_256": (
    lambda: keyjax.deep_lock(key_bits=256),
    lambda path: True,
  ),
  "deep_lock_counter": (
    lambda: keyjax.deep_lock("counter"),
    lambda path: True,
  ),
  "adv_params": (adv, lambda path: False),
  "keyed_noise": (keyjax.keyed_noise, lambda path: False),
  "licensee_mark": (keyjax.licensee_mark, lambda path: False),
  "permutation_lock": (keyjax.permutation_lock, lambda path: False),
  "chain": (
    lambda: keyjax.chain(adv(), keyjax.deep_lock()),
    lambda path: True,
  ),
  "chain_rolled": (
    lambda: keyjax.chain(rolled(), keyjax.deep_lock()),
    lambda path: True,
  ),
  "masked": (
    lambda: keyjax.masked(keyjax.deep_lock(), "conv/.*"),
    lambda path: path.startswith("conv"),
  ),
  "partition": (
    lambda: keyjax.partition(
      {
        "conv/.*": adv(),
        "dense/.*": keyjax.deep_lock("counter"),
        ".*": keyjax.deep_lock(key_bits=256),
      }
    ),
    lambda path: not path.startswith("conv"),
  ),
  "nested": (
    lambda: keyjax.masked(
      keyjax.chain(
        keyjax.masked(rolled(), "conv/.*"),
        keyjax.chain(keyjax.identity(), keyjax.deep_lock()),
      ),
      ".*/.*",
    ),
    lambda path: "/" in path,
  ),
}


def without_rng(params: Any) -> Any:
  # A pmap axis cannot be put on a typed PRNG key with device_put.
  return {k: v for k, v in params.items() if k != "rng"}


def stack(*made: Any) -> Any:
  return jax.tree.map(lambda *x: np.stack(x), *made)


def equal(a: Any, b: Any) -> bool:
  try:
    trees.assert_same_bits(a, b)
  except AssertionError:
    return False
  return True
