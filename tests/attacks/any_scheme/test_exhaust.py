"""Exhaustive search: small key spaces are tried completely, large ones not."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from keyjax.attacks import referee, registry, views
from keyjax.attacks.game import Attacker, Budget
from keyjax.attacks.pixel_shuffle import enumeration
from keyjax.schemes import pixel_shuffle
from tests.attacks import hidden_toys as toys

THIEF = Attacker(images=16)


@pytest.mark.parametrize(
  "name, block_size, keys",
  [pytest.param("shf", 2, 24, marks=pytest.mark.slow), ("np", 2, 4)],
)
def test_every_key_of_small_blocks(
  name: str, block_size: int, keys: int
) -> None:
  target = toys.target(toys.PATCHES, name, block_size=block_size)
  attack = registry.get("exhaust")
  won = referee.play(attack, target, THIEF, Budget(steps=keys))
  assert won.score.value == 1 and won.cost.steps == keys
  assert won.details["keys_a_second"] > 0
  lost = referee.play(attack, target, THIEF, Budget(steps=keys - 1))
  assert lost.score.value == 0 and lost.cost.steps == 0
  assert f"{keys - 1} tries" in lost.details["note"]


def test_eight_key_bits_of_hpnn() -> None:
  target = toys.target(toys.DEEP, "hpnn", units=8)
  attack, budget = registry.get("exhaust"), Budget(steps=256)
  knowing = Attacker(images=16, schedule=True)
  won = referee.play(attack, target, knowing, budget)
  assert won.score.details["bits_right"] == won.score.details["bits"]
  assert won.cost.steps == 256
  lost = referee.play(attack, target, THIEF, budget)
  assert lost.details["note"].startswith("2^48.0 keys"), (
    "one sign for each neuron"
  )


def test_a_key_with_a_nan_loss_does_not_hide_the_others() -> None:
  target = toys.target(toys.PATCHES, "shf", block_size=2)
  images = jnp.asarray(views.view(target, THIEF).data.image)
  right = pixel_shuffle.transform(target.key, images)

  def breaks(params: Any, x: jax.Array) -> jax.Array:
    logits = target.apply_fn(params, x)
    if x.shape != right.shape:  # A call of the referee.
      return logits
    return jnp.where(jnp.abs(x - right).max() < 1e-6, logits, jnp.nan)

  fragile = dataclasses.replace(target, apply_fn=breaks)
  play = registry.get("exhaust"), fragile, THIEF, Budget(steps=24)
  assert referee.play(*play).score.value == 1


def test_all_keys_differ() -> None:
  target = toys.target(toys.PATCHES, "shf", block_size=2)
  size, keys = enumeration.all_orders(views.view(target, THIEF))
  assert size == 24
  assert len({tuple(k.order.tolist()) for k in keys}) == 24
