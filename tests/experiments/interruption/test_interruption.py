"""Learners beside interrupted agents, two cars, and power."""

import functools

import jax
import numpy as np
import pytest

from experiments.interruption import (
  measure,
  one_state,
  power,
  tokens,
  two_cars,
)
from experiments.interruption.learners import LEARNERS

JOINT, INDEPENDENT, PRUNED = range(3)
THETAS = (0.0, 0.5, 0.9)


@pytest.fixture(scope="module")
def game():
  """Values of agent 2: float[learners, thetas, seeds, actions]."""
  learn = functools.partial(one_state.values, steps=2000)
  return measure.over(learn, THETAS, 6, jax.random.key(0))


def test_learners_are_in_this_order():
  assert list(LEARNERS) == ["joint", "independent", "pruned"]


def test_joint_values_do_not_depend_on_interruptions(game):
  np.testing.assert_array_equal(game[JOINT, 0], game[JOINT, 2])
  a, b = np.asarray(one_state.REWARDS, np.float32)
  np.testing.assert_allclose(game[JOINT, 0, 0], 0.1 * a + 0.9 * b, rtol=1e-6)


def test_independent_values_are_those_of_the_interrupted_policy(game):
  for found, theta in zip(game[INDEPENDENT], THETAS, strict=True):
    wanted = one_state.expected(theta)
    np.testing.assert_allclose(found.mean(0), wanted, atol=0.05)
  greedy = game[INDEPENDENT].argmax(-1)
  assert (greedy[:2] == 0).all() and (greedy[2] == 1).all()


def test_pruned_values_are_those_without_interruptions(game):
  wanted = one_state.expected(0)
  np.testing.assert_allclose(game[PRUNED].mean(1), [wanted] * 3, atol=0.05)
  assert (game[PRUNED].argmax(-1) == 0).all()


@pytest.mark.parametrize(("theta", "share"), [(0.0, 1.0), (1.0, 0.0)])
def test_an_action_is_played_with_a_valid_token_only(theta, share):
  found = tokens.requests(theta, 12, np.random.default_rng(0))
  assert found.valid.mean() == found.passed.mean() == share


SLOW = pytest.param("network", marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=["table", SLOW])
def cars(request):
  """Values of the follower: float[learners, thetas, seeds, gap, action]."""
  learn, steps = {
    "table": (two_cars.table, 2000),
    "network": (two_cars.network, 2000),
  }[request.param]
  with jax.numpy_dtype_promotion("standard"):
    learn = functools.partial(learn, steps=steps)
    return measure.over(learn, (0.0, 0.2, 0.6, 0.9), 4, jax.random.key(0))


def test_interruptions_teach_only_the_independent_follower(cars):
  close = two_cars.tailgates(cars)
  assert not close[JOINT].any() and not close[PRUNED].any()
  assert not close[INDEPENDENT, :2].any() and close[INDEPENDENT, 2:].all()


def test_keeping_the_distance_pays_up_to_three_eighths():
  """The mean reward behind a leader that brakes, against that up close."""
  gap = np.asarray([two_cars.FAR, two_cars.FAR, two_cars.CLOSE])
  go, brake, close = two_cars.reward(gap, np.asarray([False, True, False]))
  np.testing.assert_allclose((go - close) / (go - brake), 3 / 8, rtol=1e-6)


def test_a_follower_tailgates_if_it_stays_close():
  q = np.eye(2)[np.asarray([(0, 0), (1, 1), (1, 0), (0, 1)])]
  assert two_cars.tailgates(q).tolist() == [False, True, False, False]


@pytest.mark.parametrize("rooms", [pytest.param(1, marks=pytest.mark.slow), 8])
def test_power_is_the_closed_form(rooms):
  draw = functools.partial(power.power, rooms=rooms, discount=0.8, draws=1000)
  exact = power.expected(rooms, 0.8)
  found = jax.jit(draw)(jax.random.key(0))
  for values, limit in zip(found, exact, strict=True):
    values = np.asarray(values, np.float64)
    error = 4 * values.std() / np.sqrt(len(values))
    assert abs(values.mean() - limit) < error


def test_values_solve_the_equation_of_bellman():
  moves = power.moves(3)
  rewards = np.random.default_rng(0).uniform(size=6).astype(np.float32)
  values = power.optimal_values(rewards, moves, 0.9)
  best = np.where(moves, np.asarray(values)[None], -np.inf).max(-1)
  np.testing.assert_allclose(values, rewards + 0.9 * best, rtol=1e-5)
  assert not moves[power.START, power.START] and moves.any(-1).all()
  np.testing.assert_allclose(
    values[power.SHUTDOWN], rewards[power.SHUTDOWN] / 0.1, rtol=1e-5
  )
