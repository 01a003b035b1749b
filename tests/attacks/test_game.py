"""The framework: what attackers see, how claims are scored."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from keyjax.attacks import game, referee, registry, views
from keyjax.attacks.game import Attack, Attacker, Budget, Claim, Cost, Goal
from keyjax.schemes import pixel_shuffle
from tests.attacks import hidden_toys as hidden
from tests.attacks import toys


def xor_scheme() -> keyjax.Scheme:
  """A toy: every word XOR one 32-bit key, which a zero reveals."""
  word = keyjax.tree.as_words
  back = keyjax.tree.from_words
  return keyjax.Scheme(
    keygen=lambda secret, params, batch: jnp.uint32(
      int.from_bytes(secret.derive("toy", 4), "big")
    ),
    encrypt=lambda k, p: jax.tree.map(lambda x: word(x) ^ k, p),
    decrypt=lambda k, p: jax.tree.map(lambda x: back(x ^ k, jnp.float32), p),
  )


def xor_break(view: views.View, budget: Budget) -> Iterator[Claim]:
  """Read the key from a zero bias: each of its words is the key."""
  bias = view.locked["params"]["dense"]["bias"]
  yield Claim(None, Cost(steps=1))
  yield Claim(jnp.asarray(bias)[0], Cost(steps=2), {"looked": 1})


XOR_BREAK = Attack("xor", Goal.KEY, xor_break, ("toy",), Attacker())


def planted() -> game.Target:
  params = toys.init(jax.random.key(0))  # Biases are zero.
  return toys.target(xor_scheme(), "toy", params=params)


def test_a_curve_and_its_score() -> None:
  result = referee.play(XOR_BREAK, planted(), Attacker(), Budget())
  assert [p.score.value for p in result.curve] == [0, 1]
  assert [p.cost.steps for p in result.curve] == [1, 2]
  assert result.score.value == 1 and result.details == {"looked": 1}
  assert 0 < result.curve[0].cost.seconds <= result.cost.seconds


def test_a_view_holds_what_was_granted_and_nothing_else() -> None:
  target = dataclasses.replace(
    planted(), base=toys.trained(), copies=(toys.trained(),)
  )
  poor = views.view(target, Attacker(False, False))
  assert poor.locked is None and poor.scheme is None and poor.name == ""
  assert poor.base is None and poor.copies == () and poor.oracle is None
  assert len(poor.data.label) == 0 and poor.leak is None
  hidden = {id(x) for x in jax.tree.leaves(target.params)}
  rich = views.view(
    target, Attacker(images=9, queries=4, known_weights=4, copies=1)
  )
  seen = jax.tree.leaves(
    [getattr(rich, f.name) for f in dataclasses.fields(rich)]
  )
  assert not hidden & {id(x) for x in seen}, "the plain params are not in it"
  assert len(rich.data.label) == 9 and len(rich.copies) == 1
  assert rich.leak is not None and rich.leak.path == "params/dense/kernel"
  flat = np.asarray(target.params["params"]["dense"]["kernel"]).reshape(-1)
  assert rich.leak.values.tobytes() in flat.tobytes()


def test_a_schedule_is_in_no_view_without_its_grant() -> None:
  target = hidden.target(hidden.DEEP, "hpnn")
  everything = Attacker(
    images=9, queries=4, known_weights=4, has_base=True, copies=1
  )
  poor = views.view(target, everything)
  assert poor.schedule is None and poor.key is None
  for unit in target.key.units.values():
    assert not any(np.array_equal(x, unit) for x in arrays(poor))
  rich = views.view(target, Attacker(schedule=True))
  assert rich.schedule is not None and rich.key is None
  assert rich.schedule.size == 64
  for path, unit in target.key.units.items():
    np.testing.assert_array_equal(rich.schedule.units[path], unit)
  assert not any(np.array_equal(x, target.key.bits) for x in arrays(rich))
  with pytest.raises(ValueError, match="schedule: toy has none"):
    views.view(planted(), Attacker(schedule=True))


def arrays(view: views.View) -> list[Any]:
  """Return all arrays of a view, except what the oracle hides."""
  leaves = jax.tree.leaves(vars(view))
  return [x for x in leaves if isinstance(x, np.ndarray | jax.Array)]


def test_ciphertexts_are_of_images_the_attacker_does_not_have() -> None:
  target = hidden.target(hidden.PATCHES, "shf")
  view = views.view(target, Attacker(images=700, ciphertexts=700))
  assert view.ciphertexts is not None and view.ciphertexts.shape[0] == 700
  back = np.asarray(
    pixel_shuffle.inverse(target.key, jnp.asarray(view.ciphertexts))
  )
  known = {x.tobytes() for x in target.train.image}
  own = {x.tobytes() for x in view.data.image}
  intercepted = [x.tobytes() for x in back]
  assert set(intercepted) <= known and not set(intercepted) & own
  assert views.view(target, Attacker(images=700)).ciphertexts is None
  with pytest.raises(ValueError, match="701 images and 700 ciphertexts"):
    views.view(target, Attacker(images=701, ciphertexts=700))
  with pytest.raises(ValueError, match="ciphertexts: toy transforms no"):
    views.view(planted(), Attacker(ciphertexts=1))


def test_the_same_seed_gives_nested_images() -> None:
  few, many = (views.view(planted(), Attacker(images=n)) for n in (5, 50))
  np.testing.assert_array_equal(few.data.image, many.data.image[:5])


def test_an_oracle_counts_and_refuses() -> None:
  view = views.view(planted(), Attacker(queries=3))
  assert view.oracle is not None
  images = toys.digits()[1].image
  want = toys.NET.apply(planted().params, images[:2])
  np.testing.assert_allclose(view.oracle(images[:2]), want, rtol=1e-5)
  assert (view.oracle.used, view.oracle.left) == (2, 1)
  with pytest.raises(ValueError, match="2 queries, but 1 are left"):
    view.oracle(images[:2])


def test_an_attack_that_lacks_what_it_needs() -> None:
  attack = dataclasses.replace(XOR_BREAK, needs=Attacker(queries=1))
  with pytest.raises(ValueError, match="xor needs"):
    referee.play(attack, planted(), Attacker(), Budget())


@pytest.mark.parametrize("name", ["images", "victims", "copies", "licensees"])
def test_an_attacker_holds_no_more_than_there_is(name: str) -> None:
  attack = dataclasses.replace(XOR_BREAK, needs=Attacker())
  with pytest.raises(ValueError, match=f"{name}=100000, but this target has"):
    attacker = Attacker(**{name: 100_000})
    referee.play(attack, planted(), attacker, Budget())


@pytest.mark.parametrize("judge", [referee.play, referee.sweep])
def test_a_name_is_no_attack(judge: Any) -> None:
  with pytest.raises(TypeError, match="a str is not an attack: keyjax.attack"):
    judge("xor", planted(), Attacker(), Budget())


def test_an_unknown_leaf() -> None:
  attacker = Attacker(known_weights=4, known_leaf="nope")
  with pytest.raises(ValueError, match="known_leaf='nope'.*dense/kernel"):
    views.view(planted(), attacker)


def test_trials_count_games_won() -> None:
  targets = [planted(), toys.target(xor_scheme(), "toy")]  # No zero bias.
  result = referee.trials(XOR_BREAK, targets * 5, Attacker(), Budget())
  assert result.score.value == 0.5 and result.details["won"] == 5
  assert 0 < result.score.low < 0.5 < result.score.high < 1


def test_a_sweep_judges_one_target() -> None:
  """A referee can reuse what it computed for the previous setting."""
  seen = []

  def referee_of(value: Any, target: game.Target) -> game.Score:
    seen.append(target)
    return game.Score(0.0, 0.0, 0.0)

  attack = dataclasses.replace(XOR_BREAK, referee=referee_of)
  referee.sweep(attack, planted(), Attacker(), Budget(), [{}, {}])
  assert len({*map(id, seen)}) == 1 < len(seen)


def test_a_sweep_takes_no_nan_for_the_best() -> None:
  for scores in ([np.nan, 0.5, 0.2], [0.2, np.nan, 0.5], [np.nan, 0.5]):
    left = iter(scores)

    def referee_of(
      value: Any, target: game.Target, left: Any = left
    ) -> game.Score:
      return game.Score(*[next(left)] * 3)

    attack = dataclasses.replace(XOR_BREAK, referee=referee_of, run=once)
    result = referee.sweep(
      attack, planted(), Attacker(), Budget(), [{} for _ in scores]
    )
    assert result.score.value == 0.5


def once(view: Any, budget: Budget) -> Any:
  """Make one claim."""
  yield game.Claim(0, game.Cost())


# ------------------------------------------------------------------- referees


def scored(goal: Goal, value: Any, target: game.Target) -> game.Score:
  attack = Attack("x", goal, xor_break, (), Attacker())
  return referee.score(attack, value, target)


def test_weights_are_scored_over_locked_leaves() -> None:
  target = toys.target(keyjax.masked(keyjax.deep_lock(), ".*kernel"), "x")
  wrong = jax.tree.map(jnp.zeros_like, target.params)
  half = target.params["params"] | {"head": wrong["params"]["head"]}
  share = 64 * 32 / (64 * 32 + 320)
  assert scored(Goal.WEIGHTS, wrong, target).value == 0
  assert scored(Goal.WEIGHTS, {"params": half}, target).value == share
  assert scored(Goal.WEIGHTS, target.params, target).value == 1
  assert scored(Goal.WEIGHTS, None, target).value == 0


def test_a_function_is_scored_by_accuracy() -> None:
  target = toys.target(keyjax.deep_lock(), "deep_lock")
  score = scored(Goal.FUNCTION, target.authorized(), target)
  assert score.low < score.value < score.high and score.value > 0.9
  assert score.details == {"nonfinite": 0, "images": 397}
  noise = jax.tree.map(lambda x: x * jnp.nan, target.params)
  model = game.Model(noise, toys.NET.apply)
  assert scored(Goal.FUNCTION, model, target).details["nonfinite"] == 397


def test_a_key_of_another_structure_scores_nothing() -> None:
  assert scored(Goal.KEY, (1, 2), planted()).value == 0


def test_a_distinguisher_is_right_or_wrong() -> None:
  decoy = dataclasses.replace(planted(), genuine=False)
  assert scored(Goal.DISTINGUISH, True, planted()).value == 1
  assert scored(Goal.DISTINGUISH, True, decoy).value == 0


def test_one_game_has_a_wide_interval() -> None:
  target = planted()
  won = scored(Goal.DISTINGUISH, True, target)
  assert won[:3] == pytest.approx((1, 0.025, 1))
  for goal in (Goal.DISTINGUISH, Goal.FORGE):
    assert scored(goal, None, target)[:3] == pytest.approx((0, 0, 0.975))
  none = scored(Goal.FUNCTION, None, target)
  assert none.value == 0 and 0 < none.high < 0.02


def test_a_forgery_must_change_something_and_do_as_claimed() -> None:
  target = planted()
  flip = lambda t: jax.tree.map(lambda x: -x, t)  # noqa: E731
  top = np.uint32(1 << 31)
  locked = jax.tree.map(lambda x: x ^ top, target.locked)
  for forged, edit, want in (
    (locked, flip, 1),
    (locked, lambda t: t, 0),
    (target.locked, lambda t: t, 0),
  ):
    value = game.Forgery(forged, edit)
    assert scored(Goal.FORGE, value, target).value == want


# ------------------------------------------------------------------- registry


def test_attacks_on_any_scheme_apply_to_a_new_one() -> None:
  names = {a.name for a in registry.applicable("a_scheme_made_up_here")}
  assert {"fine_tune", "scratch", "extract"} <= names
  assert not any("deep_lock" in n for n in names)


def test_registry_errors() -> None:
  with pytest.raises(ValueError, match="unknown attack 'nope'"):
    registry.get("nope")
  with pytest.raises(ValueError, match="registered already"):
    registry.register("fine_tune", Goal.KEY, (), Attacker())


def test_no_key_becomes_a_constant() -> None:
  """A compiled program may be written to a cache: the key is an argument."""
  scheme = keyjax.Scheme(
    keygen=lambda secret, params, batch: jnp.float32(12345.5),
    bind=lambda key, apply_fn: lambda p, x: key * apply_fn(p, x),
  )
  target = toys.target(scheme, "toy", params=toys.init(jax.random.key(0)))
  images = jnp.asarray(toys.digits()[1].image[:1])
  model = target.authorized()
  text = jax.jit(model.apply_fn).lower(model.params, images).as_text()
  assert "12345" not in text and "1.23455" not in text
  bound = scheme.bind(target.key, toys.NET.apply)
  text = jax.jit(bound).lower(target.params, images).as_text()
  assert "1.23455" in text, "so the test can fail"


def test_the_last_step_is_always_scored() -> None:
  for steps in (0, 1, 2, 7, 1000):
    for points in (1, 2, 3, 50):
      marks = Budget(steps=steps, points=points).marks()
      assert marks[-1] == max(steps, 1) and len(marks) <= points
  with pytest.raises(ValueError, match="points=0: at least 1"):
    Budget(points=0).marks()
