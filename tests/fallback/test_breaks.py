"""What confidence does not protect against: every known break, shown."""

import functools

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


def test_a_nearly_right_key_is_not_told_and_hard_inputs_are_a_false_alarm():
  draw = np.random.default_rng(0)
  patterns = draw.integers(2, size=(2, 8, 8, 1)).astype(np.float32)
  noise = draw.normal(size=(60, 8, 8, 1)).astype(np.float32)
  x = patterns[draw.integers(2, size=60)] + 0.3 * noise
  scheme = keyjax.pixel_shuffle("shf", 8)
  key = scheme.keygen(Secret.generate(), None, {"image": x})
  # A model that was made for shuffled images: it compares them with patterns.
  shuffled = scheme.bind(key, lambda params, x: x)(None, patterns)

  def compare(params, x):
    return (x - 0.5).reshape(len(x), -1) @ (params - 0.5).reshape(2, -1).T

  @jax.jit
  def p_value(key, x, right, kept):
    forward = scheme.bind(key, compare)
    sure = fallback.max_softmax(forward(shuffled, x))
    reference = fallback.max_softmax(
      scheme.bind(right, compare)(shuffled, kept)
    )
    return fallback.wrong_key(sure, reference, draws=199, rng=jax.random.key(0))

  near = near_keys.near_key(key, 1, draw)
  random = near_keys.random_key(key, draw)
  hard = 0.5 + (x - 0.5) / 20
  assert p_value(random, x[:20], key, x[20:]) <= 0.01
  assert p_value(near, x[:20], key, x[20:]) > 0.01
  assert p_value(key, x[:20], key, x[20:]) > 0.01
  assert p_value(key, hard[:20], key, x[20:]) <= 0.01
