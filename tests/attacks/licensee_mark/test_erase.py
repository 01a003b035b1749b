"""What erases a licensee's mark, and what the model is then worth."""

import dataclasses
import functools
from typing import Any

import keyjax
from keyjax import Secret
from keyjax.attacks import referee, registry
from keyjax.attacks.game import Attacker, Budget, Model, Target
from tests.attacks import toys


@functools.cache
def target() -> Target:
  scheme = keyjax.licensee_mark()
  made = toys.target(scheme, "licensee_mark")
  keys = (
    scheme.keygen(Secret.generate(), made.params, None) for _ in range(11)
  )
  copies = [scheme.encrypt(key, made.params) for key in keys]
  return dataclasses.replace(made, licensed=copies)


def play(name: str, steps: int = 1, **setting: Any) -> referee.AttackResult:
  attack = registry.get(name)
  held = Attacker(
    knows_scheme=False,
    images=500 * (name == "erase_by_tuning"),
    licensees=11 * (name == "erase_by_licensees"),
  )
  budget = Budget(steps=steps, points=2)
  return referee.play(attack, target(), held, budget, setting)


def test_what_does_not_erase_a_mark() -> None:
  """The marked model works as the plain one does, and is traced."""
  plain = referee.judge(
    Model(target().params, toys.NET.apply), toys.digits()[1]
  )
  for how, strength in (
    ("prune", 0.3),
    ("quantize", 8),
    ("round", 2),
    ("noise", 0.05),
  ):
    score = play("erase_mark", how=how, strength=strength).score
    assert score.value == 0 and score.details["p_value"] < 1e-20, how
    assert abs(score.details["accuracy"] - plain.value) < 0.03, how
  tuned = play(
    "erase_by_tuning", steps=120, learning_rate=3e-3, optimizer="adam"
  )
  assert tuned.score.value == 0 and tuned.score.details["p_value"] < 1e-20


def test_noise_erases_a_mark_at_the_cost_of_accuracy() -> None:
  score = play("erase_mark", how="noise", strength=0.6).score
  assert score.details["p_value"] > 1e-6
  assert score.value == score.details["accuracy"]
  right = referee.judge(target().authorized(), target().test)
  assert score.value < right.value - 0.05


def test_licensees_who_take_the_middle_erase_all_marks() -> None:
  curve = play("erase_by_licensees", how="middle").curve
  values = {point.cost.steps: point.score.value for point in curve}
  assert [values[n] for n in (0, 1, 2)] == [0, 0, 0]
  assert values[11] > 0.9


def test_an_average_of_twelve_is_traced() -> None:
  assert play("erase_by_licensees", how="mean").score.value == 0
