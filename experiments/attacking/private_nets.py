"""The networks of `shadows`, trained with differential privacy (DP-SGD).

Each trains on half of the examples, without repetition: a guarantee is about an
example that is there once. Batches are Poisson samples, cut where they are too
large, and the accountant knows it.
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import keyjax
from experiments.attacking import shadows
from keyjax.attacks import fit
from keyjax.defenses import private

DELTA = 1e-5
_CLIP = 1.0
_BATCH = 64  # Mean size.
_LARGEST = 96  # Four standard deviations above the mean.
_NOISE = "jax"  # For networks that nobody uses, the fast generator.
_TOGETHER = 32  # Networks at a time: each holds a gradient of every example.


def guarantee(
  num_examples: int, epsilon: float | None, steps: int
) -> private.Guarantee:
  """Return what the training of each network guarantees.

  Args:
    num_examples: Examples that networks are given half of.
    epsilon: Largest epsilon; None for a control without noise.
    steps: Number of steps.

  Raises:
    ValueError: If a number is out of range.
    KeyringError: If the extra `privacy` is not installed.
  """
  own = num_examples // 2
  training = private.Training(
    examples=own,
    batch_size=min(_BATCH, own),
    steps=steps,
    delta=DELTA,
    truncated_at=min(_LARGEST, own),
  )
  noise = 0.0
  if epsilon is not None:
    noise = private.noise_multiplier(training, epsilon)
  return private.Guarantee(
    epsilon=private.epsilon(training, noise) if noise else math.inf,
    noise_multiplier=noise,
    clipping_norm=_CLIP,
    generator=_NOISE,
    training=training,
  )


def train(
  model: nn.Module,
  images: np.ndarray,
  labels: np.ndarray,
  prevalence: float,
  count: int,
  found: private.Guarantee,
  seed: int,
) -> shadows.Nets:
  """Train networks, every other one on data with the property.

  Args:
    model: MLP with one hidden layer.
    images: uint8[n, h, w, c], those that data are drawn from.
    labels: int32[n].
    prevalence: As in `shadows.train`.
    count: Number of networks.
    found: What their training guarantees; see `guarantee`.
    seed: Seed of data and initial weights; batches and noise are fresh.
  """
  has = shadows.alternating(count)
  rng = np.random.default_rng(seed)
  size = found.training.examples
  drawn = np.stack(
    [
      rng.choice(len(labels), size, replace=False, p=odds)
      for odds in shadows.odds(labels, has, prevalence)
    ]
  )
  rngs = jax.random.split(jax.random.key(seed), count)
  noise = private.noise_rng(keyjax.Secret.generate(), _NOISE)
  x = jnp.asarray(images.astype(np.float32) / 255)
  with shadows.standard_promotion():
    params = _trainer(model, found)(
      rngs, jax.random.split(noise, count), jnp.asarray(drawn), x, labels
    )
  return shadows.Nets(params, has)


@functools.lru_cache(maxsize=8)
def _trainer(model: nn.Module, found: private.Guarantee) -> Any:
  steps, size = found.training.steps, found.training.batch_size
  rate = size / found.training.examples
  rule = optax.adam(optax.cosine_decay_schedule(1e-2, steps))

  def loss(params: Any, example: Any) -> tuple[jax.Array, tuple[()]]:
    images, labels = example  # Of one example.
    logits: Any = model.apply(params, images)
    return fit.cross_entropy(logits, labels), ()

  def one(args: Any, x: jax.Array, y: jax.Array) -> Any:
    rng, secret, own = args
    params = model.init(rng, x[:1])

    def step(carry: Any, rng: jax.Array) -> tuple[Any, None]:
      params, state = carry
      coins, noise = jax.random.split(rng)
      picked, real = _poisson(coins, own, rate)
      total, _ = private.clipped_sum(
        loss, params, (x[picked], y[picked]), real, clipping_norm=_CLIP
      )
      if found.noise_multiplier:
        total = private.with_noise(
          total,
          noise,
          clipping_norm=_CLIP,
          noise_multiplier=found.noise_multiplier,
        )
      # By the mean size: the size of this batch would tell of an example.
      grads = jax.tree.map(lambda x: x / size, total)
      updates, state = rule.update(grads, state, params)
      return (optax.apply_updates(params, updates), state), None

    start = (params, rule.init(params))
    return jax.lax.scan(step, start, jax.random.split(secret, steps))[0][0]

  @jax.jit
  def many(rngs: Any, secrets: Any, drawn: Any, x: Any, y: Any) -> Any:
    return jax.lax.map(
      lambda args: one(args, x, y), (rngs, secrets, drawn), batch_size=_TOGETHER
    )

  return many


def _poisson(
  rng: jax.Array, own: jax.Array, rate: float
) -> tuple[jax.Array, jax.Array]:
  """Return the rows of a batch, and which are in it: int32[m], bool[m]."""
  coins, order = jax.random.split(rng)
  chosen = jax.random.uniform(coins, own.shape) < rate
  # Those chosen first, in random order, so that the cut is at random.
  places = jax.random.uniform(order, own.shape) + jnp.where(chosen, 0.0, 1.0)
  first = jnp.argsort(places)[:_LARGEST]
  return own[first], chosen[first]
