"""Digits models that were trained under HPNN or a pixel shuffle."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

import keyjax
from keyjax import Secret
from keyjax.attacks.fit import Recipe, fit
from keyjax.attacks.game import Target
from tests.attacks import toys

X = jnp.zeros((1, 8, 8, 1))


class Deep(nn.Module):
  """Two hidden layers, so that signs follow signs."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = nn.relu(nn.Dense(24, name="dense_0")(x.reshape(len(x), -1)))
    x = nn.relu(nn.Dense(24, name="dense_1")(x))
    return nn.Dense(10, name="head")(x)


class Conv(nn.Module):
  """A convolution, whose outputs cannot be changed one at a time."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = nn.relu(nn.Conv(8, (3, 3), strides=2, name="conv")(x))
    x = nn.relu(nn.Dense(32, name="dense")(x.reshape(len(x), -1)))
    return nn.Dense(10, name="head")(x)


class Patches(nn.Module):
  """A network that sees blocks of 4 x 4 pixels, as those of the papers do."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = nn.relu(nn.Conv(24, (4, 4), strides=4, name="conv")(x))
    x = nn.relu(nn.Dense(32, name="dense")(x.reshape(len(x), -1)))
    return nn.Dense(10, name="head")(x)


DEEP, CONV, PATCHES = Deep(), Conv(), Patches()


@functools.cache
def target(
  model: nn.Module, name: str, units: int = 64, block_size: int = 4
) -> Target:
  """Train a model under a scheme's key, and return it as shipped.

  Args:
    model: One of the modules above.
    name: `hpnn`, `shf`, `np` or `ffx`.
    units: Key bits of HPNN.
    block_size: Block size of the others.
  """
  scheme = (
    keyjax.hpnn(model.apply, units=units)
    if name == "hpnn"
    else keyjax.pixel_shuffle(name, block_size)
  )
  train, test = toys.digits()
  start = model.init(jax.random.key(0), X)
  # Not a real secret: the figures must be repeatable.
  secret = Secret(bytes(range(32)))
  key = scheme.keygen(secret, start, {"image": X})
  bound = scheme.bind(key, model.apply)
  fits = fit(bound, start, train, [600], Recipe("adam", 1e-2))
  params = next(iter(fits)).params
  return Target(
    name=name,
    scheme=scheme,
    key=key,
    params=params,
    locked=params,
    apply_fn=model.apply,
    init=lambda rng: model.init(rng, X),
    train=train,
    test=test,
    options={"block_size": block_size} if name != "hpnn" else {},
  )
