"""Fine-tuning: it repairs weak locks, and gains nothing from noise."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

import keyjax
from keyjax.attacks import fit, referee, registry, views
from keyjax.attacks.any_scheme import extract, fine_tune
from keyjax.attacks.game import Attacker, Budget, Target
from keyjax.schemes import hpnn
from tests import trees
from tests.attacks import hidden_toys as hidden
from tests.attacks import toys

THIEF = Attacker(images=40)
BUDGET = Budget(steps=60, points=4)
GRID = ({"learning_rate": 3e-3}, {"learning_rate": 1e-2})


def played(target: Target, name: str) -> referee.AttackResult:
  return referee.sweep(registry.get(name), target, THIEF, BUDGET, GRID)


def test_a_file_that_is_not_locked_needs_no_attack() -> None:
  """The planted weakness: nothing is locked."""
  target = toys.target(keyjax.identity(), "identity")
  tuned, fresh = played(target, "fine_tune"), played(target, "scratch")
  assert tuned.score.value > 0.9
  found = fine_tune.gain(tuned, fresh)
  assert 0.05 < found["low"] < found["value"] < found["high"]


def test_ciphertext_is_no_better_than_fresh_weights() -> None:
  target = toys.target(keyjax.deep_lock("counter"), "deep_lock")
  tuned, fresh = played(target, "fine_tune"), played(target, "scratch")
  assert tuned.details["renewed_leaves"] == 4
  found = fine_tune.gain(tuned, fresh)
  assert found["low"] <= 0 <= found["high"]


def test_the_curve_begins_with_the_file_as_it_is() -> None:
  target = toys.target(keyjax.identity(), "identity")
  result = played(target, "fine_tune")
  plain = referee.judge(target.authorized(), target.test).value
  assert result.curve[0].score.value == plain
  assert [p.cost.steps for p in result.curve] == [0, *BUDGET.marks()]
  flops = [p.cost.flops for p in result.curve]
  assert flops == sorted(flops) and flops[-1] > 60 * 40 * 2 * 2 * 64 * 32


def test_the_best_setting_counts_with_a_wider_interval() -> None:
  target = toys.target(keyjax.identity(), "identity")
  alone = [
    referee.play(registry.get("scratch"), target, THIEF, BUDGET, s)
    for s in GRID
  ]
  best = played(target, "scratch")
  assert best.score.value == max(r.score.value for r in alone)
  same = next(r for r in alone if r.score.value == best.score.value)
  assert best.score.low < same.score.low < same.score.high < best.score.high
  assert best.details["settings"] == 2


def test_only_the_chosen_layers_train() -> None:
  start = toys.trained()
  recipe = fit.Recipe(layers=".*head.*")
  done = next(
    iter(fit.fit(toys.NET.apply, start, toys.digits()[0], [3], recipe))
  )
  same = jax.tree.map(lambda a, b: bool((a == b).all()), start, done.params)
  assert same == {
    "params": {
      "dense": {"bias": True, "kernel": True},
      "head": {"bias": False, "kernel": False},
    }
  }


def test_batch_statistics_train_too() -> None:
  model, data = toys.Normed(), toys.digits()[0]
  start = trees.fresh(model, data.image[:1])
  recipe = fit.Recipe(layers=".*norm.*")
  done = next(iter(fit.fit(model.apply, start, data, [1], recipe))).params
  paths = keyjax.tree.flatten(start)[0]
  pairs = zip(paths, jax.tree.leaves(start), jax.tree.leaves(done), strict=True)
  moved = {p for p, a, b in pairs if not np.array_equal(a, b)}
  assert moved == {p for p in paths if "norm" in p}
  assert any(p.startswith("batch_stats/") for p in moved)


@functools.cache
def normed() -> Target:
  """Return an unlocked model with batch norm."""
  model, (data, test) = toys.Normed(), toys.digits()
  start = trees.fresh(model, data.image[:1])
  params = next(
    fit.fit(model.apply, start, data, [60], fit.Recipe("adam", 1e-2))
  ).params
  return dataclasses.replace(
    toys.target(keyjax.identity(), "identity"),
    params=params,
    locked=params,
    apply_fn=model.apply,
    init=lambda rng: trees.fresh(model, data.image[:1]),
    train=data,
    test=test,
  )


def test_batch_norm_alone_trains() -> None:
  view = views.view(normed(), THIEF)
  first, *_, last = fine_tune.batch_norm_tune(view, BUDGET)
  paths = keyjax.tree.flatten(first.value.params)[0]
  pairs = zip(
    paths,
    jax.tree.leaves(first.value.params),
    jax.tree.leaves(last.value.params),
    strict=True,
  )
  moved = {p for p, a, b in pairs if not np.array_equal(a, b)}
  assert moved == {
    f"{kind}/norm/{name}"
    for kind, names in (
      ("params", ("scale", "bias")),
      ("batch_stats", ("mean", "var")),
    )
    for name in names
  }


def test_without_batch_norm_nothing_is_claimed() -> None:
  target = toys.target(keyjax.identity(), "identity")
  result = played(target, "batch_norm_tune")
  assert result.score.value == 0
  assert result.details["note"] == "the network has no batch norm"


@pytest.mark.parametrize(
  "kind",
  [
    "deep_lock",
    *(pytest.param(x, marks=pytest.mark.slow) for x in ("hpnn", "normed")),
  ],
)
def test_a_licensee_tunes_under_their_key(kind: str) -> None:
  if kind == "hpnn":
    target = hidden.target(hidden.DEEP, "hpnn")
  elif kind == "normed":
    target = normed()
  else:
    target = toys.target(keyjax.deep_lock("counter"), "deep_lock")
  attack, licensee = (
    registry.get("fine_tune_keyed"),
    Attacker(images=40, has_key=True),
  )
  setting = {"learning_rate": 1e-3}
  result = referee.play(attack, target, licensee, BUDGET, setting)
  right = referee.judge(target.authorized(), target.test).value
  assert result.curve[0].score.value == right, "before the first step"
  assert result.score.value > right - 0.03
  first, *_, last = attack.run(views.view(target, licensee), BUDGET, **setting)
  assert not np.array_equal(
    *(jax.tree.leaves(c.value.params["params"])[0] for c in (first, last))
  )
  for a, b in zip(
    jax.tree.leaves(target.key),
    jax.tree.leaves(last.value.params[".key"]),
    strict=True,
  ):
    np.testing.assert_array_equal(a, b)
  assert attack.condition == "right"
  with pytest.raises(ValueError, match="fine_tune_keyed needs"):
    referee.play(attack, target, THIEF, BUDGET, setting)


def test_a_licence_for_hpnn_tunes_what_a_plain_model_does() -> None:
  """The capacity theorem: gradients commute with the signs."""
  target = hidden.target(hidden.DEEP, "hpnn")
  plain = dataclasses.replace(
    target,
    scheme=keyjax.identity(),
    key=(),
    params=hpnn.absorb(target.key, target.params),
    locked=hpnn.absorb(target.key, target.params),
  )
  licensee = Attacker(images=40, has_key=True)
  ends = [
    referee.play(
      registry.get("fine_tune_keyed"), t, licensee, BUDGET, {"optimizer": "sgd"}
    ).score.value
    for t in (target, plain)
  ]
  assert ends[0] == pytest.approx(ends[1], abs=0.005)


def test_a_licensee_distils_a_model_without_the_lock() -> None:
  target = hidden.target(hidden.DEEP, "hpnn")
  attack = registry.get("extract_keyed")
  result = referee.play(
    attack,
    target,
    Attacker(images=600, has_key=True),
    Budget(200, 2),
    {"learning_rate": 1e-2},
  )
  assert result.score.value > 0.85 and result.cost.queries == 0
  assert attack.condition == "right"


def test_extraction_needs_no_file() -> None:
  target = toys.target(keyjax.deep_lock("counter"), "deep_lock")
  attacker = Attacker(has_locked=False, images=300, queries=300)
  attack = registry.get("extract")
  result = referee.play(
    attack, target, attacker, Budget(150, 3), {"learning_rate": 1e-2}
  )
  assert result.score.value > 0.85
  assert result.cost.queries == 300
  assert attack.run is extract.extract and attack.condition == "api"


def test_errors() -> None:
  data = toys.digits()[0]
  with pytest.raises(ValueError, match="no leaf matches layers='x'"):
    next(
      fit.fit(toys.NET.apply, toys.trained(), data, [1], fit.Recipe(layers="x"))
    )
  with pytest.raises(ValueError, match="optimizer='lion'"):
    next(fit.fit(toys.NET.apply, toys.trained(), data, [1], fit.Recipe("lion")))
