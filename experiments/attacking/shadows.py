"""Many small networks at once, some of whose training data have a property.

Networks are trained by one compiled call, vmapped over data, initial weights
and orders; shadows see one half of the images and targets the other, so that a
meta-classifier cannot recognise a target by its images.
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from keyjax.attacks import fit

# Factor by which the digit 7 is drawn more often where the property holds.
PROPERTIES = {"frequent": 3.0, "absent": 0.0, "chance": 1.0}
DIGIT = 7


class Nets(NamedTuple):
  """Trained networks.

  Attributes:
    params: Tree whose leaves have a first axis over networks.
    label: int32[n], whether the property holds for the training data.
  """

  params: Any
  label: np.ndarray


def train(
  model: nn.Module,
  images: np.ndarray,
  labels: np.ndarray,
  prevalence: float,
  count: int,
  steps: int,
  seed: int,
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
  """
  has = (np.arange(count) % 2).astype(np.int32)
  rng = np.random.default_rng(seed)
  drawn = np.empty((count, len(labels)), np.int32)
  for i in range(count):
    odds = np.where((labels == DIGIT) & (has[i] == 1), prevalence, 1.0)
    drawn[i] = rng.choice(len(labels), len(labels), p=odds / odds.sum())
  rngs = jax.random.split(jax.random.key(seed), count)
  x = jnp.asarray(images.astype(np.float32) / 255)
  params = _trainer(model, steps)(rngs, jnp.asarray(drawn), x, labels)
  return Nets(params, has)


@functools.lru_cache(maxsize=8)
def _trainer(model: nn.Module, steps: int) -> Any:
  rule = optax.adam(optax.cosine_decay_schedule(1e-2, steps))

  def one(rng: jax.Array, drawn: jax.Array, x: Any, y: Any) -> Any:
    first, order = jax.random.split(rng)
    params = model.init(first, x[:1])

    def loss(params: Any, picked: jax.Array) -> jax.Array:
      logits: Any = model.apply(params, x[picked])
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

  many = jax.jit(jax.vmap(one, in_axes=(0, 0, None, None)))

  def run(*args: Any) -> Any:
    with (
      jax.numpy_dtype_promotion("standard"),
      jax.numpy_rank_promotion("allow"),
    ):
      return many(*args)

  return run
