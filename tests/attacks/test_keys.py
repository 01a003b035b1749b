"""Key spaces, counted by hand, and guessing where the space is tiny."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from keyjax import Secret
from keyjax.attacks import fit, key_space, referee, registry
from keyjax.attacks.game import Attacker, Budget
from keyjax.schemes import hpnn
from tests import trees
from tests.attacks import toys

PLAIN = trees.params("float32")


def bits(scheme: keyjax.Scheme, channels: int = 3) -> float:
  batch = {"image": jnp.zeros((1, 8, 8, channels))}
  return key_space.entropy_bits(scheme.keygen(Secret.generate(), PLAIN, batch))


def test_key_spaces() -> None:
  assert bits(keyjax.deep_lock()) == 128
  assert bits(keyjax.deep_lock("counter", 256)) == 256
  assert bits(keyjax.keyed_noise()) == 256
  assert bits(keyjax.pixel_shuffle("shf", 2)) == pytest.approx(
    math.log2(math.factorial(12))
  )
  assert bits(keyjax.pixel_shuffle("np", 2)) == pytest.approx(math.log2(792))
  assert bits(keyjax.pixel_shuffle("ffx", 4)) == pytest.approx(
    math.log2(math.comb(48, 23))
  )
  both = keyjax.chain(keyjax.pixel_shuffle("np", 2), keyjax.deep_lock())
  assert bits(both) == pytest.approx(128 + math.log2(792))


def test_units_without_neurons_do_not_count() -> None:
  key = hpnn.HpnnKey(
    bits=jnp.zeros(16, jnp.uint8), units={"dense": jnp.arange(4)}
  )
  assert key_space.entropy_bits(key) == 4  # One layer of four neurons.


def test_positions_of_adv_params() -> None:
  scheme = keyjax.adv_params(
    trees.loss,
    max_steps=2,
    max_layers=1,
    max_changes=1,
    loss_threshold=1e9,
  )
  key = scheme.keygen(Secret.generate(), PLAIN, None)
  leaf = int(np.asarray(key.leaf)[0])
  size = math.prod(key.spec[leaf].shape)
  assert key_space.entropy_bits(key) == pytest.approx(
    math.log2(math.comb(size, 2))
  )


def test_an_unknown_key() -> None:
  with pytest.raises(TypeError, match="no key space for a int"):
    key_space.entropy_bits(3)


def test_guessing_finds_a_key_of_two_bits_and_not_one_of_128() -> None:
  """One channel and M = 2: NP has four masks."""
  attack, thief = registry.get("random_keys"), Attacker(images=100)
  scheme, secret = keyjax.pixel_shuffle("np", 2), Secret.generate()
  train = toys.digits()[0]
  key = scheme.keygen(secret, None, {"image": train.image})
  bound = scheme.bind(key, toys.NET.apply)
  start = toys.init(jax.random.key(0))
  done = next(fit.fit(bound, start, train, [300], fit.Recipe("adam", 1e-2)))
  weak = toys.target(scheme, "np", params=done.params, secret=secret)
  won = referee.play(attack, weak, thief, Budget(steps=40, points=2))
  assert won.score.value > 0.9 and won.details["keys_a_second"] > 0
  strong = toys.target(keyjax.keyed_noise(), "keyed_noise")
  lost = referee.play(attack, strong, thief, Budget(steps=20, points=2))
  assert lost.score.value < 0.6
