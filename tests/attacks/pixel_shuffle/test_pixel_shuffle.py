"""Attacks on pixel shuffles: keys are found, unless there is no evidence."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax import Secret
from keyjax.attacks import game, referee, registry
from keyjax.attacks.game import Attacker, Budget
from keyjax.attacks.pixel_shuffle import block_keys, block_referees, jigsaw
from keyjax.schemes import pixel_shuffle
from tests.attacks import hidden_toys as toys

THIEF = Attacker(images=140)
BUDGET = Budget(steps=300, points=3)


def played(
  name: str,
  target: game.Target,
  attacker: Attacker = THIEF,
  budget: Budget = BUDGET,
  **setting: Any,
) -> referee.AttackResult:
  attack = registry.get(name)
  return referee.play(attack, target, attacker, budget, setting)


def right(target: game.Target) -> float:
  return referee.judge(target.authorized(), target.test).value


def test_blocks_are_those_of_the_scheme() -> None:
  key = toys.target(toys.PATCHES, "shf").key
  x = jnp.asarray(np.random.default_rng(0).random((2, 8, 12, 1)), jnp.float32)
  blocks = jnp.take(block_keys.to_blocks(x, 4), key.order, axis=-1)
  np.testing.assert_array_equal(
    block_keys.from_blocks(blocks, 4), pixel_shuffle.transform(key, x)
  )


@pytest.mark.parametrize(
  "name, kind",
  [
    pytest.param("pixel_sinkhorn", "shf", marks=pytest.mark.slow),
    ("pixel_gates", "np"),
  ],
)
def test_gradients_find_the_key(name: str, kind: str) -> None:
  target = toys.target(toys.PATCHES, kind)
  result = played(name, target, learning_rate=0.1)
  assert result.score.details["key_share"] > 0.85
  assert result.score.value > right(target) - 0.05


@pytest.mark.parametrize(
  "kind", ["shf", pytest.param("np", marks=pytest.mark.slow)]
)
def test_a_free_convolution_absorbs_any_map(kind: str) -> None:
  target = toys.target(toys.PATCHES, kind)
  result = played("pixel_conv", target, learning_rate=0.03)
  assert result.curve[0].score.value < 0.7, "without a key"
  assert result.score.value > 0.85


@pytest.mark.slow
def test_a_free_table_reads_ffx() -> None:
  target = toys.target(toys.PATCHES, "ffx")
  result = played("pixel_table", target, learning_rate=0.1)
  first = result.curve[0].score.value
  assert result.score.value > max(first + 0.2, 0.6)


@pytest.mark.parametrize(
  "by", ["accuracy", pytest.param("loss", marks=pytest.mark.slow)]
)
def test_swaps_climb(by: str) -> None:
  target = toys.target(toys.PATCHES, "shf")
  result = played("pixel_climb", target, by=by)
  assert result.score.value > result.curve[0].score.value + 0.2
  assert result.score.value > 0.7


def test_ciphertexts_and_other_images_give_the_permutation() -> None:
  """Digits are 8 x 8: too small for the model of images."""
  target = toys.target(toys.PATCHES, "shf")
  result = played(
    "pixel_jigsaw",
    target,
    Attacker(has_locked=False, images=200, ciphertexts=400),
    Budget(30, 1),
    template="images",
  )
  assert result.score.value >= 0.9


@pytest.mark.parametrize("kind", ["np", "ffx"])
def test_ciphertexts_alone_give_the_mask(kind: str) -> None:
  images = smooth(200)
  scheme = pixel_shuffle.pixel_shuffle(kind, 4)
  key = scheme.keygen(Secret.generate(), None, {"image": images})
  seen = np.asarray(pixel_shuffle.transform(key, jnp.asarray(images)))
  if kind == "np":
    found = jigsaw.inverted(seen, 4)
  else:
    found = np.asarray(jigsaw.table_key(seen, 4).mask)
  np.testing.assert_array_equal(found, key.mask)


def smooth(count: int) -> np.ndarray:
  """Return random images whose neighbouring pixels are alike."""
  coarse = np.random.default_rng(0).random((count, 6, 6, 1))
  fine = jax.image.resize(jnp.asarray(coarse), (count, 16, 16, 1), "linear")
  return np.asarray(fine, np.float32)


@pytest.mark.parametrize("template", ["model", "images"])
def test_smooth_images_give_every_position(template: str) -> None:
  images = smooth(400)
  order = np.random.default_rng(1).permutation(16)
  key = pixel_shuffle.ShfKey(order=jnp.asarray(order), block_size=4)
  seen = np.asarray(pixel_shuffle.transform(key, jnp.asarray(images[:200])))
  own = images[200:] if template == "images" else None
  found = jigsaw.solve("shf", 4, seen, own, 10)
  np.testing.assert_array_equal(found.order, order)


def test_noise_gives_no_position() -> None:
  """Independent pixels are no evidence of their positions."""
  images = np.random.default_rng(0).random((400, 8, 8, 1), np.float32)
  shares = []
  for seed in range(6):
    order = np.random.default_rng(seed).permutation(16)
    key = pixel_shuffle.ShfKey(order=jnp.asarray(order), block_size=4)
    seen = np.asarray(pixel_shuffle.transform(key, jnp.asarray(images)))
    found = jigsaw.solve("shf", 4, seen, restarts=2)
    shares.append(block_referees.share(found, key))
  assert np.mean(shares) < 0.2


def test_a_jigsaw_needs_ciphertexts() -> None:
  target = toys.target(toys.PATCHES, "shf")
  with pytest.raises(ValueError, match="pixel_jigsaw needs"):
    played("pixel_jigsaw", target, Attacker(has_locked=False, images=9))


def test_a_network_that_ignores_its_input_gives_no_key() -> None:
  """No image changes the logits, so no front can learn anything."""
  target = toys.target(toys.PATCHES, "shf")
  dead = jax.tree.map(jnp.zeros_like, target.params)
  target = dataclasses.replace(target, params=dead, locked=dead)
  result = played("pixel_sinkhorn", target, budget=Budget(60, 1))
  assert result.score.details["key_share"] < 0.4
  assert result.score.value < 0.2
