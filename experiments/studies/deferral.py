"""Learning to defer, against asking where a network is unsure.

As in the paper, the person is perfect on some classes and guesses on the
others. Images are noisy, so that there is something to ask about.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments import models
from experiments.studies import base
from keyjax import fallback

TITLE = "Learning to defer"
SENTENCE = (
  "A network that learned what a person knows better asks about that, and not "
  "where it is unsure: both together are right more often."
)
DATASETS = ("digits", "mnist")

_NOISE = 0.5
_KNOWN = 5  # The person knows classes 0 to 4.
_STEPS = 3000
_BATCH = 128


def run(lab: base.Lab) -> list[base.Figure]:
  """Return accuracies of the person, of networks, and of both together."""
  rng, train_rng, test_rng = jax.random.split(lab.rng, 3)
  labels = jnp.asarray(lab.test.label)
  x = _noisy(rng, jnp.asarray(lab.test.image))
  person = _right(test_rng, labels)
  alone = _train(lab, train_rng, asks=False)(x)
  learned = _train(lab, train_rng, asks=True)(x)
  sure = {
    "learned": fallback.best_over_deferral(learned),
    "greatest probability": fallback.max_softmax(alone),
  }
  # Both ask about as many images.
  asked = int((sure["learned"] <= 0).sum())
  classes = {
    "learned": learned[:, :-1].argmax(-1),
    "greatest probability": alone.argmax(-1),
  }
  figures = [
    base.share("person alone: accuracy", person),
    base.share("network alone: accuracy", alone.argmax(-1) == labels),
    base.share("answered by the network", sure["learned"] > 0),
  ]
  for name, confidence in sure.items():
    ask = jnp.argsort(confidence).argsort() < asked
    right = jnp.where(ask, person, classes[name] == labels)
    figures += [
      base.share(f"{name}: accuracy of both together", right),
      base.share(f"{name}: person right, where asked", person[ask]),
    ]
  return figures


def _noisy(rng: jax.Array, images: jax.Array) -> jax.Array:
  noise = jax.random.normal(rng, images.shape)
  return jnp.clip(images + _NOISE * noise, 0, 1)


def _right(rng: jax.Array, labels: jax.Array) -> jax.Array:
  """Return whether the person is right, bool[n]."""
  guessed = jax.random.uniform(rng, labels.shape) < 0.1  # One class of ten.
  return (labels < _KNOWN) | guessed


def _train(
  lab: base.Lab, rng: jax.Array, *, asks: bool
) -> Callable[[jax.Array], jax.Array]:
  """Return a network trained on noisy images, alone or with the person."""
  d = lab.dataset
  model = models.create("mlp", d.num_classes + asks, d.mean, d.std)
  images, labels = jnp.asarray(lab.train.image), jnp.asarray(lab.train.label)
  variables = model.init(rng, images[:1])
  optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, _STEPS))

  def loss_fn(variables: Any, x: jax.Array, y: jax.Array, m: Any) -> jax.Array:
    logits: Any = model.apply(variables, x)
    if asks:
      return fallback.deferral_loss(logits, y, m).mean()
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

  def step(carry: Any, rng: jax.Array) -> tuple[Any, None]:
    variables, state = carry
    pick, noise, person = jax.random.split(rng, 3)
    rows = jax.random.randint(pick, (_BATCH,), 0, len(images))
    y = labels[rows]
    right = _right(person, y).astype(jnp.float32)
    grads = jax.grad(loss_fn)(variables, _noisy(noise, images[rows]), y, right)
    updates, state = optimizer.update(grads, state)
    return (optax.apply_updates(variables, updates), state), None

  @jax.jit
  def fit(variables: Any, rng: jax.Array) -> Any:
    start = variables, optimizer.init(variables)
    return jax.lax.scan(step, start, jax.random.split(rng, _STEPS))[0][0]

  trained = fit(variables, rng)
  return jax.jit(lambda x: model.apply(trained, x))
