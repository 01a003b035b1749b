"""Small networks whose gradients are known to be masked, or not to be."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from keyjax.attacks.evasion.losses import cross_entropy
from keyjax.defenses import (
  adversarial_loss,
  discrete,
  distilled_loss,
  soft_labels,
  with_noise,
)
from keyjax.defenses.audit_attacks import Outcomes, outcomes
from tests.attacks import toys

EPSILON = 0.1
TEMPERATURE = 100.0
TRAIN, TEST = toys.digits()
IMAGES = jnp.asarray(TRAIN.image)
LABELS = jnp.asarray(TRAIN.label)
X, Y = jnp.asarray(TEST.image[:128]), jnp.asarray(TEST.label[:128])
Loss = Callable[[Any, jax.Array, jax.Array], jax.Array]


def mlp(params: Any, x: jax.Array) -> jax.Array:
  hidden = x.reshape(len(x), -1) @ params["a"] + params["b"][None]
  return jax.nn.relu(hidden) @ params["c"]


def fit(loss: Loss, rng: jax.Array, steps: int) -> Any:
  """Return params after Adam on `loss(params, rows, rng)`."""
  first, second, orders = jax.random.split(rng, 3)
  params = {
    "a": jax.random.normal(first, (64, 64)) / 6,
    "b": jnp.zeros(64),
    "c": jax.random.normal(second, (64, 10)) / 8,
  }
  optimizer = optax.adam(5e-3)

  def step(carry: Any, rng: jax.Array) -> tuple[Any, None]:
    params, state = carry
    rows = jax.random.randint(rng, (64,), 0, len(LABELS))
    gradient = jax.grad(lambda p: loss(p, rows, rng).mean())(params)
    updates, state = optimizer.update(gradient, state)
    return (optax.apply_updates(params, updates), state), None

  start = (params, optimizer.init(params))
  with jax.numpy_dtype_promotion("standard"):  # Optax counts in int32.
    return jax.lax.scan(step, start, jax.random.split(orders, steps))[0][0]


def ordinary(images: jax.Array, rng: jax.Array) -> Any:
  def loss(params: Any, rows: jax.Array, _: jax.Array) -> jax.Array:
    return cross_entropy(mlp(params, images[rows]), LABELS[rows])

  return fit(loss, rng, 500)


def adversarial(images: jax.Array, rng: jax.Array) -> Any:
  def loss(params: Any, rows: jax.Array, rng: jax.Array) -> jax.Array:
    model = functools.partial(mlp, params)
    x, y = images[rows], LABELS[rows]
    return adversarial_loss.pgd(model, x, y, epsilon=EPSILON, rng=rng)

  return fit(loss, rng, 500)


def distilled(images: jax.Array, rng: jax.Array) -> Any:
  def learn(labels: jax.Array, rng: jax.Array) -> Any:
    def loss(params: Any, rows: jax.Array, _: jax.Array) -> jax.Array:
      logits = mlp(params, images[rows])
      return distilled_loss(logits, labels[rows], TEMPERATURE)

    return fit(loss, rng, 1000)

  first, second = jax.random.split(rng)
  teacher = learn(LABELS, first)
  return learn(soft_labels(mlp(teacher, images), TEMPERATURE), second)


@functools.partial(jax.jit, static_argnums=0)
def trained(how: Callable[..., Any], images: jax.Array, rngs: jax.Array) -> Any:
  """Return the params of several networks: images[k, ...], rngs[k]."""
  return jax.vmap(how)(images, rngs)


def quantised(params: Any, x: jax.Array) -> jax.Array:
  """Return logits that are computed in integers, as small devices do."""

  def whole(value: jax.Array, scale: int) -> jax.Array:
    return jnp.round(value * scale).astype(jnp.int32)

  first = whole(x.reshape(len(x), -1), 255) @ whole(params["a"], 64)
  first += whole(params["b"], 255 * 64)[None]
  hidden = jnp.maximum(first, 0) // 255
  return (hidden @ whole(params["c"], 64)).astype(jnp.float32) / 64**2


def noisy(params: Any, x: jax.Array, rng: jax.Array) -> jax.Array:
  model = functools.partial(mlp, params)
  return with_noise(model, sigma=0.1, draws=1, rng=rng)(x)


MODELS: dict[str, Callable[[Any, jax.Array], jax.Array]] = {
  "network": mlp,
  "binarised": lambda p, x: discrete(functools.partial(mlp, p))(x),
  "one_draw": lambda p, x: noisy(p, x, jax.random.key(3)),
  "quantised": quantised,
}


@jax.jit
def attacked(
  model: jax.Array, params: Any, x: jax.Array, rng: jax.Array
) -> Outcomes:
  """Return outcomes on one of `MODELS`, by number: one program for all."""

  def logits_fn(x: jax.Array) -> jax.Array:
    return jax.lax.switch(model, list(MODELS.values()), params, x)

  return outcomes(
    logits_fn,
    x,
    Y,
    epsilon=EPSILON,
    steps=20,
    n_queries=250,
    noise_draws=50,
    temperatures=(TEMPERATURE,),
    rng=rng,
  )
