"""Small locked models whose weaknesses are known."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import sklearn.datasets

import keyjax
from keyjax import Secret
from keyjax.attacks.fit import Recipe, fit
from keyjax.attacks.game import Examples, Target


class Net(nn.Module):
  """A small MLP for the digits."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = nn.relu(nn.Dense(32, name="dense")(x.reshape(len(x), -1)))
    return nn.Dense(10, name="head")(x)


class Normed(nn.Module):
  """A model with batch norm."""

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    x = nn.Dense(8, name="dense")(x.reshape(len(x), -1))
    x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
    return nn.Dense(10, name="head")(x)


NET = Net()


@functools.cache
def digits() -> tuple[Examples, Examples]:
  """Return training and test images."""
  found = sklearn.datasets.load_digits()
  images = (found.images / 16).astype(np.float32)[..., None]
  labels = found.target.astype(np.int32)
  order = np.random.default_rng(0).permutation(len(labels))
  a, b = order[:1400], order[1400:]
  return Examples(images[a], labels[a]), Examples(images[b], labels[b])


def init(rng: jax.Array) -> Any:
  return NET.init(rng, jnp.zeros((1, 8, 8, 1)))


@functools.cache
def trained() -> Any:
  """Return params that classify about 96 % of the digits correctly."""
  fits = fit(
    NET.apply, init(jax.random.key(0)), digits()[0], [400], Recipe("adam", 1e-2)
  )
  return next(iter(fits)).params


def target(scheme: keyjax.Scheme, name: str, **fields: Any) -> Target:
  """Lock a tree, by default the trained digits model, under a new secret."""
  params = fields.pop("params", None)
  params = trained() if params is None else params
  train, test = digits()
  batch = {"image": jnp.asarray(train.image), "label": jnp.asarray(train.label)}
  key = scheme.keygen(fields.pop("secret", Secret.generate()), params, batch)
  return Target(
    name=name,
    scheme=scheme,
    key=key,
    params=params,
    locked=scheme.encrypt(key, params),
    apply_fn=NET.apply,
    init=init,
    train=train,
    test=test,
    **fields,
  )
