"""AutoAttack: its order, its batches, and its warnings."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax.attacks import evasion
from keyjax.attacks.evasion import auto_attack, warning_signs
from tests.attacks.evasion import models

RNG = jax.random.key(0)
run = functools.partial(
  evasion.autoattack, epsilon=0.03, rng=RNG, steps=10, n_queries=30
)


@pytest.mark.slow
def test_the_standard_version_on_digits():
  x, y = models.digits(24)
  found = run(models.net, x, y, batch_size=16, epsilon=0.1)
  names = ["clean", "apgd_ce", "apgd_t", "fab_t", "square"]
  assert list(found.accuracy) == names
  falling = list(found.accuracy.values())
  assert falling == sorted(falling, reverse=True) and falling[0] >= 0.9
  assert 0 < falling[-1] < falling[0]
  right = np.asarray(models.net(jnp.asarray(found.inputs)).argmax(-1) == y)
  np.testing.assert_array_equal(right, found.robust)
  assert (found.distance <= 0.1 + 1e-6).all()
  assert (found.distance[found.robust] == 0).all()
  fooled = [name == "" for name in found.fooled_by]
  np.testing.assert_array_equal(fooled, found.robust)
  assert found.robust.mean() == falling[-1]
  assert (found.queries[found.robust] > 100).all()
  assert set(found.flags) <= {"black_box"}  # Few steps, few examples.


@pytest.mark.slow
def test_batches_change_nothing():
  x, y = models.inputs(), models.labels()
  once = run(models.linear, x, y, attacks=("apgd_ce", "square"))
  parts = run(models.linear, x, y, attacks=("apgd_ce", "square"), batch_size=3)
  assert once.accuracy == parts.accuracy and once.fooled_by == parts.fooled_by
  np.testing.assert_allclose(once.inputs, parts.inputs, atol=1e-6)


def test_random_models_need_the_version_for_them():
  x, y = models.inputs(), models.labels()

  def noisy(x, rng):
    return models.linear(x) + jax.random.normal(rng, (len(x), 10)) / 4

  found = run(
    noisy, x, y, version="rand", randomized=True, attacks=("apgd_ce",)
  )
  assert found.accuracy["apgd_ce"] < found.accuracy["clean"]
  draws = iter(jax.random.split(RNG, 99))
  flags = warning_signs.randomness(lambda x: noisy(x, next(draws)), x)
  assert "version='rand'" in flags["random"]
  assert warning_signs.randomness(models.linear, x) == {}
  with pytest.raises(ValueError, match="needs randomized=True"):
    run(models.linear, x, y, version="rand")


def test_probabilities_and_zero_gradients_are_flagged():
  x, y = models.inputs(), models.labels()

  def softmax(x):
    return jax.nn.softmax(jnp.round(models.linear(x)))

  found = run(softmax, x, y, attacks=("apgd_ce",))
  assert set(found.flags) == {"probabilities", "zero_gradients"}
  assert "version='plus'" in found.flags["zero_gradients"]


def test_results_that_contradict_each_other_are_flagged():
  good = {"clean": 1.0, "apgd_ce": 0.5, "square": 0.499}
  none = np.zeros(8, bool)
  assert warning_signs.results(good, none) == {}
  flags = warning_signs.results(good | {"square": 0.4}, ~none)
  assert "10.00%" in flags["black_box"] and "8 of 8" in flags["not_finite"]


def test_few_classes_leave_out_attacks():
  names = ("apgd_ce", "apgd_dlr", "apgd_t", "fab_t")
  kept, flags = warning_signs.possible(names, 2)
  assert kept == ("apgd_ce", "fab_t") and "apgd_dlr, apgd_t" in flags["classes"]
  kept, flags = warning_signs.possible(names, 4)
  assert kept == names and "3 wrong classes, not 9" in flags["classes"]
  assert warning_signs.possible(names, 10) == (names, {})
  with pytest.raises(ValueError, match="no attack of apgd_t has a loss"):
    warning_signs.possible(("apgd_t",), 3)


def test_wrong_arguments_are_refused():
  x, y = models.inputs(), models.labels()
  wrong = {
    "epsilon is": {"epsilon": -1.0},
    "norm is 'l0'": {"norm": "l0"},
    "choose from standard, plus, rand": {"version": "best"},
    "attacks .*: choose from": {"attacks": ("pgd",)},
    "batch_size is 0": {"batch_size": 0},
    "outside the bounds": {"bounds": (0.5, 1.0)},
    "labels range": {"labels": y + 10},
  }
  for message, given in wrong.items():
    with pytest.raises(ValueError, match=message):
      run(**({"logits_fn": models.linear, "inputs": x, "labels": y} | given))


def test_batches_have_two_sizes():
  sizes = {
    (500, 250): [250, 250],
    (310, 250): [250, 50, 50],
    (249, 250): [250],
    (1, 250): [50],
    (5, 3): [3, 1, 1],
  }
  for (count, batch), found in sizes.items():
    assert auto_attack._sizes(count, batch) == found


def test_a_second_call_compiles_nothing():
  x, y = models.inputs(), models.labels()
  traced = 0

  def counting(x):
    nonlocal traced
    traced += isinstance(x, jax.core.Tracer)
    return models.linear(x)

  run(counting, x, y, attacks=("apgd_t",))
  first, traced = traced, 0
  run(counting, x, y, attacks=("apgd_t",), rng=jax.random.key(1))
  assert first > 2 and traced == 1  # Once for the number of classes.


@pytest.mark.parametrize(
  "norm", [pytest.param("linf", marks=pytest.mark.slow), "l2"]
)
def test_parts_of_a_search_are_the_whole(norm):
  x, y = models.inputs(), models.labels()
  attack = functools.partial(
    evasion.square,
    models.linear,
    x,
    y,
    epsilon=0.02,
    norm=norm,
    n_queries=20,
    rng=RNG,
  )
  whole, first = attack(), attack(window=(0, 7))
  second = attack(window=(7, 20), start=first.inputs)
  np.testing.assert_allclose(second.inputs, whole.inputs, atol=1e-6)
  assert (first.success <= second.success).all()


@pytest.mark.slow
def test_classes_can_be_aimed_at_one_by_one():
  x, y = models.inputs(), models.labels()
  for attack in (evasion.apgd_targeted, evasion.fab):
    single = functools.partial(
      attack, models.linear, x, y, epsilon=0.03, steps=10, rng=RNG
    )
    whole = single(n_targets=3).success
    each = [single(n_targets=1, skip=i).success for i in range(3)]
    np.testing.assert_array_equal(whole, np.any(each, 0))
    none = single(n_targets=9, skip=9)
    np.testing.assert_array_equal(none.distance, 0)
