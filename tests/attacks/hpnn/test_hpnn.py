"""Attacks on HPNN: they find signs that matter, and cannot find others."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from keyjax import Secret
from keyjax.attacks import game, referee, registry, views
from keyjax.attacks.fit import Recipe, fit
from keyjax.attacks.game import Attacker, Budget
from keyjax.attacks.hpnn import linear, sign_model, sign_referees, statistics
from keyjax.schemes import hpnn, hpnn_units
from tests import trees
from tests.attacks import hidden_toys as toys
from tests.attacks import toys as plain_toys

BUDGET = Budget(steps=200, points=3)


def played(
  name: str, target: game.Target, attacker: Attacker, **setting: Any
) -> referee.AttackResult:
  attack = registry.get(name)
  return referee.play(attack, target, attacker, BUDGET, setting)


def right(target: game.Target) -> float:
  return referee.judge(target.authorized(), target.test).value


@pytest.mark.parametrize(
  "model", [toys.DEEP, pytest.param(toys.CONV, marks=pytest.mark.slow)]
)
def test_an_oracle_gives_every_bit(model: nn.Module) -> None:
  target = toys.target(model, "hpnn")
  assert right(target) > 0.9
  thief = Attacker(images=200, queries=200)
  result = played("hpnn_relax_oracle", target, thief, loss="mse")
  assert result.score.value == 1, result.score.details
  assert result.score.details["accuracy"] == right(target)
  assert result.cost.queries == 200


@pytest.mark.parametrize(
  "model", [toys.DEEP, pytest.param(toys.CONV, marks=pytest.mark.slow)]
)
def test_algebra_gives_every_bit(model: nn.Module) -> None:
  target = toys.target(model, "hpnn")
  thief = Attacker(images=100, queries=200)
  result = played("hpnn_algebraic", target, thief)
  assert result.score.value == 1, result.score.details
  assert result.details["residual"] < 1e-6
  # Three queries each read the first layer of 24; a convolution is learned.
  assert result.details["read"] == (24 if model is toys.DEEP else 0)


@pytest.mark.slow
def test_a_wrong_sign_before_the_last_layer_is_found_and_corrected() -> None:
  """The correctness procedure: the residual is rounding or it is not."""
  target = toys.target(toys.CONV, "hpnn")
  view = views.view(target, Attacker(images=60, queries=60))
  problem = sign_model.pose(view)
  data = sign_model.examples(view, "mse", 0)
  signs = np.concatenate(
    [np.asarray(target.key.signs(p), np.float32) for p in target.key.units]
  )
  theta = signs.copy()
  theta[3] *= -0.1  # Wrong, and not sure.
  first, *_, last = linear.correct(problem, theta, "dense", data, 8)
  assert first[2] > 1e-3 and last[2] < 1e-6
  np.testing.assert_array_equal(last[1], signs)


@pytest.mark.parametrize("further", [0, 30])
def test_a_base_shows_every_sign_that_was_written_after_training(
  further: int,
) -> None:
  net, base = plain_toys.NET, plain_toys.trained()
  params = base
  if further:
    train, _ = plain_toys.digits()
    fits = fit(net.apply, base, train, [further], Recipe("adam", 1e-3))
    params = next(iter(fits)).params
  scheme = keyjax.hpnn(net.apply, units=64, after_training=True)
  target = plain_toys.target(scheme, "hpnn", params=params, base=base)
  assert right(target) > 0.9
  stolen = game.Model(target.locked, net.apply)
  assert referee.judge(stolen, target.test, target.task).value < 0.6
  result = played("hpnn_base", target, Attacker(has_base=True))
  assert result.score.value == right(target)
  counts = result.score.details
  assert counts["bits_right"] == counts["bits"] > 20


def test_a_model_trained_under_its_key_has_no_base() -> None:
  target = toys.target(toys.DEEP, "hpnn")
  with pytest.raises(ValueError, match="no public base: it was trained under"):
    played("hpnn_base", target, Attacker(has_base=True))


def test_a_few_labels_beat_fine_tuning() -> None:
  target = toys.target(toys.CONV, "hpnn")
  thief = Attacker(images=40)
  signs = played("hpnn_relax", target, thief, starts=4)
  tuned = referee.sweep(
    registry.get("fine_tune"),
    target,
    thief,
    BUDGET,
    ({"learning_rate": 1e-3}, {"learning_rate": 3e-3}),
  )
  assert signs.score.value > tuned.score.value
  assert signs.score.value > 0.8


def test_absorbed_signs_and_training() -> None:
  target = toys.target(toys.CONV, "hpnn")
  result = played("hpnn_retrain", target, Attacker(images=140), starts=4)
  assert result.score.value > 0.85
  assert result.cost.flops > 0


@pytest.mark.parametrize("schedule", [False, True])
@pytest.mark.parametrize("name", ["hpnn_greedy", "hpnn_genetic"])
def test_searches_climb(name: str, schedule: bool) -> None:
  target = toys.target(toys.CONV, "hpnn")
  thief = Attacker(images=140, schedule=schedule)
  result = played(name, target, thief)
  first, last = result.curve[0].score, result.curve[-1].score
  assert last.value > first.value + 0.1
  assert last.value > 0.4, "a random key of this model has 0.1 to 0.3"


def test_greedy_flips_with_an_oracle() -> None:
  target = toys.target(toys.DEEP, "hpnn")
  thief = Attacker(images=100, queries=100)
  result = played("hpnn_greedy_oracle", target, thief)
  assert result.score.value > 0.6 and result.cost.queries == 100


def test_the_schedule_makes_key_bits_of_signs() -> None:
  target = toys.target(toys.CONV, "hpnn")
  thief = Attacker(images=100, queries=100, schedule=True)
  problem = sign_model.pose(views.view(target, thief))
  assert problem.size == 64
  assert sorted(problem.free) == hpnn_units.used_units(target.key).tolist()
  result = played("hpnn_relax_oracle", target, thief, starts=4)
  assert result.score.value == 1
  free = 64 - hpnn_units.used_units(target.key).size
  assert result.score.details["bits_free"] == free


def test_the_last_layer_comes_first() -> None:
  view = views.view(toys.target(toys.DEEP, "hpnn"), Attacker(images=1))
  assert sign_model.pose(view).free.tolist() == [
    *range(24, 48),
    *range(24),
  ]


# ---------------------------------------------------------------- no weakness


def test_fresh_weights_tell_nothing() -> None:
  """The signs of random weights are in no statistic and no label."""
  model = toys.CONV
  scheme = keyjax.hpnn(model.apply, units=64)
  params = trees.fresh(model, toys.X)
  wins = []
  for _ in range(8):
    key = scheme.keygen(Secret.generate(), params, {"image": toys.X})
    target = dataclasses.replace(
      toys.target(model, "hpnn"), key=key, params=params, locked=params
    )
    result = played("hpnn_statistics", target, Attacker())
    details = result.score.details
    wins.append(details["neurons_right"] / details["neurons"])
  assert 0.35 < np.mean(wins) < 0.65


def test_statistics_of_trained_weights_tell_signs() -> None:
  """Planted: every effective weight is below 0."""
  target = toys.target(toys.DEEP, "hpnn")
  key = target.key
  planted = jax.tree.map(lambda x: -jnp.abs(x) - 0.1, target.params)
  params = hpnn.absorb(key, planted)
  view = views.view(
    dataclasses.replace(target, params=params, locked=params), Attacker()
  )
  found = statistics.evidence(sign_model.pose(view))
  signs = np.concatenate([np.asarray(key.signs(p)) for p in key.units])
  np.testing.assert_array_equal(np.sign(found), signs)


# ----------------------------------------------------------------- symmetries


class Odd(nn.Module):
  """tanh, and no bias behind it: whole layers flip together."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = nn.tanh(nn.Dense(6, name="a")(x.reshape(len(x), -1)))
    x = nn.tanh(nn.Dense(5, use_bias=False, name="b")(x))
    return nn.Dense(3, name="head")(x)


class Even(nn.Module):
  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = nn.Dense(6, name="a")(x.reshape(len(x), -1)) ** 2
    return nn.Dense(3, name="head")(x)


def locked(model: nn.Module) -> tuple[Any, Any, sign_referees.Symmetries]:
  scheme = keyjax.hpnn(model.apply, units=16)
  params = trees.fresh(model, toys.X)
  key = scheme.keygen(Secret.generate(), params, {"image": toys.X})
  images = plain_toys.digits()[1].image[:16]
  return params, key, sign_referees.symmetries(model.apply, params, key, images)


def flipped(key: Any, *paths: str) -> Any:
  """Returns a key with a bit of its own for each neuron, some layers turned."""
  units, bits, start = {}, [], 0
  for path in key.units:
    signs = np.asarray(key.signs(path)) * (-1 if path in paths else 1)
    units[path] = jnp.arange(start, start + signs.size)
    start += signs.size
    bits.append(signs < 0)
  all_bits = jnp.asarray(np.concatenate(bits).astype(np.uint8))
  return hpnn.HpnnKey(bits=all_bits, units=units)


def test_an_odd_activation_turns_layers_together() -> None:
  _, key, found = locked(Odd())
  assert found.pairs == [("a", "b")]
  assert not any(n.any() for n in found.neurons.values())
  both = sign_referees.agreement(flipped(key, "a", "b"), key, found)
  assert both["neurons_right"] == both["neurons"] == 11
  one = sign_referees.agreement(flipped(key, "b"), key, found)
  assert one["neurons_right"] == 6


def test_an_even_activation_frees_every_neuron() -> None:
  with pytest.warns(UserWarning, match="lock changes no output"):
    _, key, found = locked(Even())
  assert found.neurons["a"].all() and not found.pairs
  counts = sign_referees.agreement(flipped(key, "a"), key, found)
  assert counts["bits"] == 0 and counts["bits_free"] == 16


def test_many_neurons_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
  """Then layers that turn together count as they are."""
  monkeypatch.setattr(sign_referees, "_MOST_NEURONS", 10)
  _, key, untried = locked(Odd())
  assert not untried.pairs
  assert {p: n.size for p, n in untried.neurons.items()} == {"a": 6, "b": 5}
  both = sign_referees.agreement(flipped(key, "a", "b"), key, untried)
  assert both["neurons"] == 11 and both["neurons_right"] == 0


def test_neurons_without_weights_are_free() -> None:
  model = toys.DEEP
  scheme = keyjax.hpnn(model.apply, units=64)
  params = trees.fresh(model, toys.X)["params"]
  params["dense_0"]["kernel"] = params["dense_0"]["kernel"].at[:, 3].set(0.0)
  params["dense_1"]["kernel"] = params["dense_1"]["kernel"].at[5].set(0.0)
  tree = {"params": params}
  key = scheme.keygen(Secret.generate(), tree, {"image": toys.X})
  images = plain_toys.digits()[1].image[:16]
  found = sign_referees.symmetries(model.apply, tree, key, images)
  assert np.flatnonzero(found.neurons["dense_0"]).tolist() == [3, 5]
  assert not found.neurons["dense_1"].any()


def test_an_unknown_loss() -> None:
  with pytest.raises(ValueError, match="loss='l1'"):
    sign_model.loss("l1", jnp.zeros((1, 2)), jnp.zeros((1, 2)))
