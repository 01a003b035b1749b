"""Many small networks at once, some of whose training data have a property.

Networks are trained by one compiled call, vmapped over data, initial weights,
orders and keys; shadows see one half of the images and targets the other, so
that a meta-classifier cannot recognise a target by its images.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import keyjax
from keyjax.attacks import fit

# Factor by which the digit 7 is drawn more often where the property holds.
PROPERTIES = {"frequent": 3.0, "absent": 0.0, "chance": 1.0}
DIGIT = 7


class Nets(NamedTuple):
  """Trained networks.

  Attributes:
    params: Tree whose leaves have a first axis over networks.
    label: int32[n], whether the property holds for the training data.
    keys: Their keys, likewise, if they were trained under keys.
  """

  params: Any
  label: np.ndarray
  keys: Any = None


@contextlib.contextmanager
def standard_promotion() -> Iterator[None]:
  """Let Optax and the networks promote, which the caller may have forbidden."""
  with (
    jax.numpy_dtype_promotion("standard"),
    jax.numpy_rank_promotion("allow"),
  ):
    yield


def alternating(count: int) -> np.ndarray:
  """Return whether each of some networks has the property, int32[count]."""
  return (np.arange(count) % 2).astype(np.int32)


def odds(
  labels: np.ndarray, has: np.ndarray, prevalence: float
) -> Iterator[np.ndarray]:
  """Yield the probability of each example to be drawn, for each network."""
  for one in has:
    found = np.where((labels == DIGIT) & (one == 1), prevalence, 1.0)
    yield found / found.sum()


def train(
  model: nn.Module,
  images: np.ndarray,
  labels: np.ndarray,
  prevalence: float,
  count: int,
  steps: int,
  seed: int,
  scheme: keyjax.Scheme | None = None,
  keys: Any = None,
) -> Nets:
  """Train networks, every other one on data with the property.

  Args:
    model: MLP with one hidden layer.
    images: uint8[n, h, w, c], those that data are drawn from.
    labels: int32[n].
    prevalence: Factor by which `DIGIT` is drawn more often; 1 for no property.
    count: Number of networks.
    steps: Steps of Adam, with batches of 64.
    seed: Seed of data, initial weights and orders.
    scheme: Scheme under whose keys they are trained, if any.
    keys: A key for each network, leaves with a first axis over networks.
  """
  has = alternating(count)
  rng = np.random.default_rng(seed)
  drawn = np.stack(
    [
      rng.choice(len(labels), len(labels), p=p)
      for p in odds(labels, has, prevalence)
    ]
  ).astype(np.int32)
  rngs = jax.random.split(jax.random.key(seed), count)
  x = jnp.asarray(images.astype(np.float32) / 255)
  with standard_promotion():
    params = _trainer(model, steps, scheme)(rngs, drawn, keys, x, labels)
  return Nets(params, has, keys)


@functools.lru_cache(maxsize=8)
def _trainer(model: nn.Module, steps: int, scheme: keyjax.Scheme | None) -> Any:
  rule = optax.adam(optax.cosine_decay_schedule(1e-2, steps))

  def one(rng: jax.Array, drawn: jax.Array, key: Any, x: Any, y: Any) -> Any:
    first, order = jax.random.split(rng)
    params = model.init(first, x[:1])
    forward = model.apply if scheme is None else scheme.bind(key, model.apply)

    def loss(params: Any, picked: jax.Array) -> jax.Array:
      logits: Any = forward(params, x[picked])
      return fit.cross_entropy(logits, y[picked])

    def step(carry: Any, rng: jax.Array) -> tuple[Any, None]:
      params, state = carry
      picked = jax.random.choice(rng, drawn, (64,))
      grads = jax.grad(loss)(params, picked)
      updates, state = rule.update(grads, state, params)
      return (optax.apply_updates(params, updates), state), None

    start = (params, rule.init(params))
    rngs = jax.random.split(order, steps)
    return jax.lax.scan(step, start, rngs)[0][0]

  return jax.jit(jax.vmap(one, in_axes=(0, 0, 0, None, None)))
