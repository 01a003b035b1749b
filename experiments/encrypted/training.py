"""What is asked under encryption: a network of digits, a linear regression."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from experiments import data
from keyjax.defenses.homomorphic import network

Forward = Callable[[Any, jax.Array], jax.Array]


class Split(NamedTuple):
  """Inputs and what they should give.

  Attributes:
    inputs: float32[n, inputs].
    targets: int32[n] of classes, or float[n].
  """

  inputs: np.ndarray
  targets: np.ndarray


def digits() -> tuple[Split, Split]:
  """Return the digits to train on, and those to test on, in [0, 1]."""
  found = data.load("digits")

  def split(images: np.ndarray, labels: np.ndarray) -> Split:
    flat = images.reshape(len(images), -1).astype(np.float32) / 255
    return Split(flat, labels)

  return (
    split(found.train_images, found.train_labels),
    split(found.test_images, found.test_labels),
  )


def trained(
  config: ConfigDict, seed: int, train: Split, forward: Forward
) -> Any:
  """Return the params of a network of digits.

  Args:
    config: Section `network` of `configs/homomorphic.py`.
    seed: Of the first weights and the order of batches.
    train: Digits.
    forward: Function of params and inputs that returns logits.
  """
  rng, order = jax.random.split(jax.random.key(seed))
  sizes = (train.inputs.shape[1], *config.hidden, 10)
  params = network.init(rng, sizes)
  batch = min(config.batch, len(train.targets))
  steps = len(train.targets) // batch
  # Logits of squares grow fast: a clipped gradient keeps the first steps small.
  optimizer = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.adamw(
      optax.cosine_decay_schedule(config.learning_rate, config.epochs * steps),
      weight_decay=config.weight_decay,
    ),
  )

  def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    logits = forward(params, x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

  def step(carry: Any, rows: jax.Array) -> tuple[Any, None]:
    params, state = carry
    x, y = (jnp.asarray(v)[rows] for v in train)
    updates, state = optimizer.update(
      jax.grad(loss)(params, x, y), state, params
    )
    return (optax.apply_updates(params, updates), state), None

  @jax.jit
  def epoch(carry: Any, rng: jax.Array) -> Any:
    rows = jax.random.permutation(rng, len(train.targets))[: steps * batch]
    return jax.lax.scan(step, carry, rows.reshape(steps, batch))[0]

  carry = params, optimizer.init(params)
  for i in range(config.epochs):
    carry = epoch(carry, jax.random.fold_in(order, i))
  return carry[0]


def quadratic(config: ConfigDict) -> Forward:
  """Return the network that is asked under encryption."""
  return functools.partial(network.apply, activation=tuple(config.activation))


def with_relu(params: Any, x: jax.Array) -> jax.Array:
  """Return the logits of the same layers with ReLU, which CKKS cannot do."""
  for i in range(len(params)):
    layer = params[f"dense_{i}"]
    x = (jax.nn.relu(x) if i else x) @ layer["kernel"] + layer["bias"][None]
  return x


def accuracy(forward: Forward, params: Any, test: Split) -> float:
  """Return the share of right digits."""
  found = jax.jit(forward)(params, test.inputs).argmax(-1)
  return float((np.asarray(found) == test.targets).mean())


def diabetes(config: ConfigDict, seed: int) -> tuple[Split, Split]:
  """Return rows to fit and to test, features in [-1, 1], targets scaled."""
  # Here, because the import takes a second that nothing else needs.
  from sklearn import datasets

  x, y = datasets.load_diabetes(return_X_y=True)
  order = np.random.default_rng(seed).permutation(len(y))
  test, train = np.split(order, [config.test])
  scale, mean, deviation = np.abs(x).max(0), y[train].mean(), y[train].std()
  x, y = x / scale, (y - mean) / deviation
  return Split(x[train], y[train]), Split(x[test], y[test])


def fitted(train: Split) -> dict[str, dict[str, np.ndarray]]:
  """Return least squares as a network of one layer."""
  ones = np.column_stack([train.inputs, np.ones(len(train.inputs))])
  found = np.linalg.lstsq(ones, train.targets, rcond=None)[0]
  return {"dense_0": {"kernel": found[:-1, None], "bias": found[-1:]}}


def determination(found: np.ndarray, targets: np.ndarray) -> float:
  """Return R^2.

  Example:
    >>> determination(np.asarray([1.0, 2.0, 2.0]), np.asarray([1.0, 2.0, 3.0]))
    0.5
  """
  rest = ((targets - found) ** 2).sum()
  return float(1 - rest / ((targets - targets.mean()) ** 2).sum())
