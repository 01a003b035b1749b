"""A new key: training for it, or locking again, and the old one is no use."""

import dataclasses

import jax
import pytest

import keyjax
from keyjax import tree
from keyjax.attacks import game, referee, registry, views
from keyjax.attacks.any_scheme import new_key
from keyjax.attacks.game import Attacker, Budget, Model
from tests.attacks import toys

OWNER = Attacker(has_key=True, images=400)
BUDGET = Budget(steps=150, points=2)


def test_training_for_a_new_key_brings_the_accuracy_back() -> None:
  target = toys.target(keyjax.pixel_shuffle("shf", 8), "shf")
  view = views.view(target, OWNER)
  claims = list(new_key.train_new_key(view, BUDGET, learning_rate=1e-2))
  first, *_, last = (referee.judge(c.value, target.test).value for c in claims)
  assert first < 0.5 and last > 0.8
  params = {k: v for k, v in claims[-1].value.params.items() if k != ".key"}
  old = Model((target.key, params), game.keyed(target.scheme, toys.NET.apply))
  assert referee.judge(old, target.test).value < 0.5


def test_a_model_from_scratch_starts_at_chance() -> None:
  target = toys.target(keyjax.pixel_shuffle("shf", 8), "shf")
  result = referee.play(
    registry.get("train_new_key"),
    target,
    OWNER,
    dataclasses.replace(BUDGET, steps=1),
    {"learning_rate": 1e-2, "fresh": True},
  )
  assert result.curve[0].score.value < 0.35


@pytest.mark.parametrize(
  "scheme, name",
  [
    (keyjax.deep_lock("counter"), "deep_lock"),
    (keyjax.hpnn(toys.NET.apply, units=64), "hpnn"),
  ],
  ids=["counter", "hpnn"],
)
def test_a_key_is_changed_without_training(
  scheme: keyjax.Scheme, name: str
) -> None:
  target = toys.target(scheme, name)
  (claim,) = new_key.change_key(views.view(target, OWNER), BUDGET)
  before = referee.judge(target.authorized(), target.test).value
  assert referee.judge(claim.value, target.test).value == before
  key, params = claim.value.params
  assert not tree.same_bits(*map(jax.tree.leaves, (key, target.key)))
  if name == "deep_lock":
    assert tree.same_bits(params, target.params)
