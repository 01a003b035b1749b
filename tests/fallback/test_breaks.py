"""What confidence does not protect against: every known break, shown."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import keyjax
from keyjax import Secret, fallback
from keyjax.attacks import evasion, fooling, near_keys

SURE = fallback.unless(fallback.max_softmax, above=0.99)


def logits_fn(x):
  """Is the left half brighter than the right half?"""
  left, right = x[:, :4].mean(-1), x[:, 4:].mean(-1)
  return 40 * jnp.stack([left, right], -1)


@jax.jit
def asking(x):
  return fallback.ask(lambda params, x: logits_fn(x), SURE)(None, x)


def test_adversarial_inputs_are_answered():
  x = jnp.full((4, 8), 0.4).at[:, :4].add(0.2)
  labels = jnp.zeros(4, jnp.int32)
  assert not asking(x).ask.any() and (asking(x).logits.argmax(-1) == 0).all()
  attack = functools.partial(evasion.fgsm, logits_fn, epsilon=0.2)
  found = asking(jax.jit(attack)(x, labels).inputs)
  assert not found.ask.any() and (found.logits.argmax(-1) == 1).all()


def test_fooling_inputs_are_answered():
  found = fooling.gradient_ascent(
    logits_fn, (8,), steps=10, step_size=0.1, rng=jax.random.key(0)
  )
  assert not asking(found.inputs).ask.any()


def test_other_inputs_than_those_of_the_calibration_break_the_guarantee():
  rng = np.random.default_rng(0)

  def sample(noise, n=500):
    labels = rng.integers(2, size=n)
    x = 0.4 + 0.2 * (labels[:, None] == (np.arange(8) > 3)[None])
    x = x + noise * rng.normal(size=x.shape)
    logits = logits_fn(jnp.asarray(x, jnp.float32))
    wrong = np.asarray(logits.argmax(-1)) != labels
    return np.asarray(fallback.max_softmax(logits)), wrong

  threshold = fallback.conformal_threshold(*sample(0.2), risk=0.05)
  same, noisier = (
    ((confidence > threshold) & wrong).mean()
    for confidence, wrong in (sample(0.2), sample(0.6))
  )
  assert same < 0.07 and noisier > 0.2


class Net(nn.Module):
  """A wide layer, so that one unit of it hardly matters."""

  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Dense(256, name="dense")(x))
    return 30 * nn.Dense(2, name="head")(x)


def test_a_nearly_right_key_is_not_told_and_a_random_one_is_hidden_by_noise():
  model = Net()
  x = jax.random.normal(jax.random.key(0), (60, 8))
  params = model.init(jax.random.key(1), x)
  scheme = keyjax.hpnn(model.apply, layers=".*dense", units=64)
  key = scheme.keygen(Secret.generate(), params, {"image": x})

  @jax.jit
  def confidence(key, x):
    forward = keyjax.authorize(scheme, key, model.apply)
    return fallback.max_softmax(forward(params, x))

  reference = confidence(key, x[:40])
  test = functools.partial(fallback.wrong_key, draws=199, rng=jax.random.key(2))
  near = near_keys.near_key(key, 1, np.random.default_rng(0))
  assert test(confidence(near, x[40:]), reference) > 0.01
  # Inputs that are hard under the right key raise a false alarm.
  assert test(confidence(key, x[40:]), reference) > 0.01
  assert test(confidence(key, x[40:] / 20), reference) <= 0.01
