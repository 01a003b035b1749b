"""Destruction rates: counted by hand, and of the digits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax.attacks import evasion
from keyjax.attacks.intervals import clopper_pearson
from keyjax.attacks.physical import (
  Photo,
  destroyed,
  destruction_rate,
  photograph,
)
from tests.attacks.evasion import models

RNG = jax.random.key(0)
LABELS = jnp.zeros(6, jnp.int32)
INPUTS = jnp.asarray([[0.9], [0.9], [0.9], [0.1], [0.9], [0.9]])
CHANGED = jnp.asarray([[0.1], [0.2], [0.4], [0.1], [0.9], [0.3]])


def model(x: jax.Array) -> jax.Array:
  """Class 0 above a half."""
  return jnp.concatenate([x - 0.5, 0.5 - x], -1)


def brighter(rng: jax.Array, x: jax.Array) -> jax.Array:
  return x + 0.25


def test_only_adversarial_inputs_count() -> None:
  """The fourth was wrong before, the fifth is right after the change."""
  found = jax.jit(lambda x, y: destroyed(model, x, y, LABELS, brighter, RNG))(
    INPUTS, CHANGED
  )
  want = [True, True, True, False, False, True]
  np.testing.assert_array_equal(found.adversarial, want)
  want = [False, False, True, False, False, True]
  np.testing.assert_array_equal(found.destroyed, want)
  assert found.finite.all()
  rate = destruction_rate(model, INPUTS, CHANGED, LABELS, brighter, RNG)
  assert (rate.rate, rate.adversarial, rate.destroyed) == (0.5, 4, 2)
  assert (rate.low, rate.high) == clopper_pearson(2, 4)


def test_nan_is_neither_adversarial_nor_destroyed() -> None:
  """At 0.2, the model fails on a changed input; at 0.65, on a photo."""

  def broken(x: jax.Array) -> jax.Array:
    bad = (jnp.abs(x - 0.2) < 0.01) | (jnp.abs(x - 0.65) < 0.01)
    return jnp.where(bad, jnp.nan, model(x))

  found = destruction_rate(broken, INPUTS, CHANGED, LABELS, brighter, RNG)
  assert found.rate == 1 / 3 and found.adversarial == 3
  assert found.destroyed == 1 and found.finite == 4


def test_refuses_what_has_no_rate() -> None:
  with pytest.raises(ValueError, match="none of 6 inputs"):
    destruction_rate(model, INPUTS, INPUTS, LABELS, brighter, RNG)
  with pytest.raises(ValueError, match="changed is"):
    destruction_rate(model, INPUTS, CHANGED[:5], LABELS, brighter, RNG)
  with pytest.raises(ValueError, match="labels"):
    destruction_rate(model, INPUTS, CHANGED, LABELS[:5], brighter, RNG)


def test_no_transform_destroys_nothing_and_the_way_back_everything() -> None:
  rate = functools.partial(destruction_rate, model, INPUTS, CHANGED, LABELS)
  assert rate(lambda rng, x: x, RNG).rate == 0
  assert rate(lambda rng, x: INPUTS, RNG).rate == 1


@pytest.mark.slow
def test_a_photo_destroys_less_of_an_attack_that_knows_it() -> None:
  """Expectation over photos, judged by photos with another rng."""
  images, labels = models.digits()
  settings = Photo(rotation=30, shift=0.5, blur=0.5)
  photo = functools.partial(photograph, settings=settings)
  seen = evasion.expectation(models.net, photo, draws=8, rng=RNG)

  def rate(logits_fn) -> float:
    changed = jax.jit(
      lambda x: (
        evasion.pgd(logits_fn, x, labels, epsilon=0.2, steps=10, rng=RNG).inputs
      )
    )(images)
    return destruction_rate(
      models.net, images, changed, labels, jax.jit(photo), jax.random.key(1)
    ).rate

  assert rate(seen) < 0.1 < rate(models.net) - 0.02
