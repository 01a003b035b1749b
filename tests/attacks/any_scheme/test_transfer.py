"""Transfer: won where the stolen file is the model, judged by strict rules."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

import keyjax
from keyjax import Secret
from keyjax.attacks import adversarial, game, referee, registry, views
from keyjax.attacks.any_scheme import transfer
from keyjax.attacks.game import Adversarial, Attacker, Budget, Examples, Target
from tests.attacks import toys

BUDGET = Budget(steps=10, points=2)
SEES = Attacker(images=600, victims=150, has_key=True)
EPSILON = 0.2


def play(name: str, target: Target, **setting: Any) -> referee.AttackResult:
  ball = {"epsilon": EPSILON, **setting}
  return referee.play(registry.get(name), target, SEES, BUDGET, ball)


def shuffled(kind: str) -> Target:
  """Return an input key in front of a model that was not trained for it."""
  secret = Secret(bytes(32))
  return toys.target(keyjax.pixel_shuffle(kind, 4), kind, secret=secret)


def test_an_open_file_is_the_model() -> None:
  """The planted weakness: nothing is locked."""
  target = toys.target(keyjax.identity(), "identity")
  stolen, owner = (
    play(n, target).score for n in ("transfer_stolen", "transfer_with_key")
  )
  assert stolen.value > 0.9 and stolen.value == owner.value
  assert stolen.details["images"] > 140 and stolen.details["victims"] == 150
  assert play("transfer_tuned", target, train_steps=5).score.value > 0.9
  noise = play("transfer_noise", target).score
  assert noise.high < stolen.low


def test_a_surrogate_needs_no_file() -> None:
  target = toys.target(keyjax.deep_lock("counter"), "deep_lock")
  blind = play("transfer_stolen", target).score
  own = play("transfer_surrogate", target, train_steps=200)
  assert own.score.low > blind.high, "ciphertext has no useful gradient"
  assert own.details["trained_on"] == 600
  attacker = Attacker(images=600, victims=150, queries=100)
  attack = registry.get("transfer_surrogate")
  asked = referee.play(attack, target, attacker, BUDGET, {"train_steps": 1})
  assert asked.details["trained_on"] == 100 and attack.condition == "api"
  assert asked.cost.queries == 100 and own.cost.queries == 0


def test_a_ball_of_radius_0_wins_nothing() -> None:
  target = toys.target(keyjax.identity(), "identity")
  for name in ("transfer_stolen", "transfer_noise"):
    assert play(name, target, epsilon=0.0).score.value == 0


@pytest.mark.parametrize("kind", ["shf", "np", "ffx"])
def test_input_keys(kind: str) -> None:
  target = shuffled(kind)
  found = play("transfer_keys", target, keys=2)
  assert 0 <= found.score.value <= 1 and found.details == {"keys": 2}
  assert play("transfer_with_key", target).score.value > 0.3


def test_the_ascent_stays_in_the_ball_and_climbs() -> None:
  target = toys.target(keyjax.identity(), "identity")
  view = views.view(target, SEES)
  claims = [*transfer.transfer_stolen(view, BUDGET, epsilon=0.1, restarts=3)]
  assert view.victims is not None
  for claim in claims:
    assert adversarial.outside(claim.value, view.victims.image) == ""
  plain, momentum = (
    play("transfer_stolen", target, momentum=m) for m in (0.0, 1.0)
  )
  for result in (plain, momentum):
    first, last = (p.score.value for p in result.curve)
    assert last > first


@pytest.mark.parametrize(
  "ball", [{"epsilon": -1.0}, {"epsilon": np.nan}, {"restarts": 0}]
)
def test_an_invalid_ball(ball: dict[str, Any]) -> None:
  target = toys.target(keyjax.identity(), "identity")
  with pytest.raises(ValueError, match=r"Ball\(.*restarts 1 or more"):
    play("transfer_stolen", target, **ball)


def test_limits_of_random_keys_and_training_steps() -> None:
  for keys in (0, 65):
    with pytest.raises(ValueError, match=f"keys={keys}: must be from 1 to 64"):
      play("transfer_keys", shuffled("np"), keys=keys)
  target = toys.target(keyjax.identity(), "identity")
  untrained = play("transfer_tuned", target, train_steps=0)
  assert untrained.score == play("transfer_stolen", target).score


# ------------------------------------------------------------------ the rules


def scored(change: Any, epsilon: float = 0.1) -> game.Score:
  target = toys.target(keyjax.identity(), "identity")
  seen = views.view(target, Attacker(victims=20)).victims
  assert seen is not None
  target = dataclasses.replace(target, victims=seen)
  claim = Adversarial(change(seen.image), epsilon)
  return referee.score(registry.get("transfer_noise"), claim, target)


@pytest.mark.parametrize(
  ("change", "rule"),
  [
    (lambda x: x[:5], "other images than the victims"),
    (lambda x: x + 0.05, r"pixels outside \[0, 1\]"),
    (lambda x: np.full_like(x, np.nan), r"pixels outside \[0, 1\]"),
    (lambda x: 1 - x, "pixels outside the ball"),
  ],
)
def test_a_claim_that_breaks_a_rule_scores_nothing(
  change: Any, rule: str
) -> None:
  found = scored(change)
  assert (found.value, found.low, found.high) == (0, 0, 0)
  assert re.fullmatch(rule, found.details["outside"])


def test_only_correctly_classified_victims_count() -> None:
  target = toys.target(keyjax.identity(), "identity")
  label = toys.digits()[1].label[:20].copy()
  label[:5] = (label[:5] + 1) % 10  # The model is wrong on these.
  image = toys.digits()[1].image[:20]
  target = dataclasses.replace(target, victims=Examples(image, label))
  attack = registry.get("transfer_noise")
  found = referee.score(attack, Adversarial(image, 0.1), target)
  assert found.value == 0 and found.high > 0
  assert found.details["images"] <= 15
  inverted = Adversarial(1 - image, 1.0)
  assert referee.score(attack, inverted, target).value > 0.5


def test_a_sweep_widens_the_interval() -> None:
  target = toys.target(keyjax.identity(), "identity")
  attack = registry.get("transfer_stolen")
  grid = tuple({"epsilon": EPSILON, "momentum": m} for m in (0.0, 1.0))
  best = referee.sweep(attack, target, SEES, BUDGET, grid)
  alone = referee.play(attack, target, SEES, BUDGET, best.setting)
  assert best.score.value == alone.score.value
  assert best.score.low < alone.score.low


def test_what_was_not_granted_is_not_seen() -> None:
  target = toys.target(keyjax.identity(), "identity")
  poor = views.view(target, Attacker())
  assert poor.victims is None and poor.key is None
  with pytest.raises(ValueError, match=r"Attacker\.victims"):
    adversarial.score(Adversarial(np.zeros((1, 8, 8, 1)), 0.1), target)
  with pytest.raises(ValueError, match="transfer_with_key needs"):
    attack = registry.get("transfer_with_key")
    referee.play(attack, target, Attacker(victims=1), BUDGET)
