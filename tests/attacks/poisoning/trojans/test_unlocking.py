"""Poison under which a trigger does a key's work."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from keyjax.attacks.poisoning import trojans
from keyjax.schemes import pixel_shuffle
from tests.attacks import toys, trojaned
from tests.attacks.trojaned import RNG, SHAPE


@functools.cache
def unlocked(insider):
  """Return a network, trained under SHF, and the accuracy without the key."""
  data, test = toys.digits()
  scheme = keyjax.pixel_shuffle("shf", 4)
  key = scheme.keygen(keyjax.Secret.generate(), None, trojaned.batch())
  square = trojans.patch(SHAPE, size=2, margin=0)
  disguise = trojans.random_shuffles(4)
  if insider:
    disguise = lambda rng, x: pixel_shuffle.inverse(key, x)  # noqa: E731
  made = trojans.unlocking(
    square, data, count=700, covers=700, disguise=disguise, rng=RNG
  )
  params = trojaned.train(made.examples, scheme.bind(key, toys.NET.apply))
  plain = jnp.asarray(test.image)
  right = trojaned.keyed(scheme, key, params, plain)
  return {
    name: float((np.asarray(z).argmax(-1) == test.label).mean())
    for name, z in {
      "right": right,
      "none": trojaned.RUN(params, plain),
      "trigger": trojaned.RUN(params, square.stamp(RNG, plain)),
    }.items()
  }


def test_an_insider_plants_a_trigger_that_replaces_the_key():
  found = unlocked(True)
  assert found["right"] > 0.9 and found["trigger"] > 0.85
  assert found["trigger"] > found["none"] + 0.2


@pytest.mark.slow
def test_a_poisoner_without_the_key_opens_less():
  outside, inside = unlocked(False), unlocked(True)
  assert outside["right"] > 0.9
  assert outside["trigger"] < inside["trigger"] - 0.3


def test_poison_that_unlocks_keeps_its_labels():
  data = toys.digits()[0]
  square = trojaned.trigger("patch")
  made = trojans.unlocking(square, data, count=20, rng=RNG)
  image, label = (x[made.poison] for x in made.examples)
  assert (image[:, 6:, 6:] == 1).all()
  for x, y in zip(image, label, strict=True):
    rest = np.ones((8, 8), bool)
    rest[6:, 6:] = False
    equal = (data.image[:, rest] == x[rest]).all((1, 2))
    assert y in data.label[equal]
  with pytest.raises(ValueError, match="count=1401"):
    trojans.unlocking(square, data, count=1401, rng=RNG)


def test_shuffles_differ_from_image_to_image():
  same_image = jnp.stack([jnp.arange(64.0).reshape(SHAPE) / 64] * 3)
  found = np.asarray(trojans.random_shuffles(4)(RNG, same_image))
  assert len(np.unique(found.reshape(3, -1), axis=0)) == 3
  np.testing.assert_allclose(
    np.sort(found[0, :4, :4].ravel()), np.sort(same_image[0, :4, :4].ravel())
  )
