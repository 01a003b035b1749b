"""Small networks to fool: one program, with what differs as its arguments."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from keyjax.defenses import saturation
from tests.attacks import toys

SHAPE = (8, 8, 1)
CLASSES = 10


class Net(NamedTuple):
  """The MLP of `toys`, and how it differs from it.

  Attributes:
    params: Its params.
    sigmoid: Whether hidden units are sigmoids.
    rounded: Whether it rounds its inputs, and so has no gradient.
    limit: Logits are NaN where the first pixel is brighter.
  """

  params: Any
  sigmoid: bool = False
  rounded: bool = False
  limit: float = 2.0

  def hidden(self, x: jax.Array) -> jax.Array:
    layer = self.params["params"]["dense"]
    x = jnp.where(self.rounded, jnp.round(x), x).reshape(len(x), -1)
    sums = x @ layer["kernel"] + layer["bias"][None]
    return jnp.where(self.sigmoid, jax.nn.sigmoid(sums), jax.nn.relu(sums))

  def __call__(self, x: jax.Array) -> jax.Array:
    layer = self.params["params"]["head"]
    logits = self.hidden(x) @ layer["kernel"] + layer["bias"][None]
    return jnp.where(x[:, 0, 0] > self.limit, jnp.nan, logits)


@functools.cache
def plain() -> Net:
  return Net(toys.trained())


@functools.cache
def weights() -> np.ndarray:
  draw = np.random.default_rng(0).normal(size=(64, CLASSES))
  return draw.astype(np.float32)


def linear(x: jax.Array) -> jax.Array:
  return 4 * (x - 0.5).reshape(len(x), -1) @ weights()


@functools.cache
def saturated(activation: str, weight: float = 4.0) -> Net:
  """Return a network that is trained on the digits with a penalty."""
  train = toys.digits()[0]
  x, y = jnp.asarray(train.image), jnp.asarray(train.label)
  sigmoid = activation == "sigmoid"
  optimizer = optax.sgd(0.5, momentum=0.9)

  def loss(params: Any, grown: jax.Array) -> jax.Array:
    net = Net(params, sigmoid)
    penalty = saturation([net.hidden(x)], activation).mean() / 32
    right = optax.softmax_cross_entropy_with_integer_labels(net(x), y).mean()
    return right + grown * penalty

  def step(state: tuple, grown: jax.Array) -> tuple[tuple, None]:
    params, memory = state
    found, memory = optimizer.update(jax.grad(loss)(params, grown), memory)
    return (optax.apply_updates(params, found), memory), None

  grown = jnp.linspace(0, weight, 300, dtype=jnp.float32)
  train_all = jax.jit(lambda state: jax.lax.scan(step, state, grown)[0][0])
  params = toys.init(jax.random.key(0))
  return Net(train_all((params, optimizer.init(params))), sigmoid)
