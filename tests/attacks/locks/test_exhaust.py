"""Exhaustive search: few keys are all tried, and many are not."""

import pytest

from keyjax.attacks import referee, registry, views
from keyjax.attacks.game import Attacker, Budget
from keyjax.attacks.locks import exhaust
from tests.attacks.locks import toys

THIEF = Attacker(images=16)


@pytest.mark.parametrize(
  "name, block_size, keys", [("shf", 2, 24), ("np", 2, 4)]
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
  assert lost.details["note"].startswith("2^48.0 keys"), "a sign a neuron"


def test_all_keys_differ() -> None:
  target = toys.target(toys.PATCHES, "shf", block_size=2)
  found = exhaust.space(views.view(target, THIEF))
  assert found.size == 24
  assert len({tuple(k.order.tolist()) for k in found.keys}) == 24
