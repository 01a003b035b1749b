"""Dataset inference: it finds a planted margin, and none where none is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax.attacks.copies import ownership

_RNG = np.random.default_rng(0)
# The model's boundary is at half of the first value: its "training data" is far
# from it. Other models have their boundary along the second value.
_FIRST = 0.5 + 0.5 * _RNG.choice([-1, 1], 80) * _RNG.uniform(0.5, 0.9, 80)
PRIVATE = np.stack([_FIRST, *_RNG.random((3, 80))], 1).astype(np.float32)
OTHER = _RNG.random((80, 4)).astype(np.float32)
OTHER[:, 0] = 0.5 + 0.3 * (OTHER[:, 0] - 0.5)
OWN = {"w": jnp.asarray([1.0, 0.0, 0.0, 0.0])}
INDEPENDENT = {"w": jnp.asarray([0.0, 1.0, 0.0, 0.0])}


def apply_fn(params: dict, x: jax.Array) -> jax.Array:
  at = (x - 0.5) @ params["w"]
  return jnp.stack([at, -at], -1)


def walk(params: dict, inputs: np.ndarray) -> np.ndarray:
  return ownership.blind_walk(apply_fn, params, inputs, directions=2, steps=20)


def margins(params: dict, inputs: np.ndarray) -> np.ndarray:
  return ownership.margins(apply_fn, params, inputs)


@pytest.mark.parametrize("distances", [walk, margins])
def test_a_planted_margin_is_found_and_an_independent_model_is_not(
  distances,
) -> None:
  fitted = ownership.fit(
    distances(OWN, PRIVATE[:40]), distances(OWN, OTHER[:40])
  )

  def decide(params: dict) -> ownership.Decision:
    ours, theirs = PRIVATE[40:], OTHER[40:]
    found = distances(params, ours), distances(params, theirs)
    return ownership.decide(fitted, *found)

  assert decide(OWN).p < 1e-3
  assert decide(INDEPENDENT).p > 0.05
  assert decide(OWN).effect > decide(INDEPENDENT).effect


def test_margins_are_distances_to_the_boundary() -> None:
  found = margins(OWN, PRIVATE)
  assert found.shape == (80, 1)
  assert np.allclose(found[:, 0], abs(PRIVATE[:, 0] - 0.5), atol=1e-5)


def test_a_walk_ends_where_the_class_changes_or_one_step_beyond() -> None:
  found = walk(OWN, PRIVATE)
  assert found.shape == (80, 6)
  assert set(np.round(found / 0.05).ravel().tolist()) <= set(range(1, 22))
  always = {"w": jnp.zeros(4)}
  assert np.allclose(walk(always, PRIVATE), 21 * 0.05)


def test_a_model_of_one_class_is_called_nobodys() -> None:
  """A t-test of equal values would be NaN."""
  same = np.ones((5, 2))
  fitted = ownership.fit(same + np.arange(5)[:, None], same)
  assert ownership.decide(fitted, same, same) == ownership.Decision(1.0, 0.0)


def test_false_alarms_are_as_many_as_the_level_allows() -> None:
  rng = np.random.default_rng(1)
  alarms = 0
  for _ in range(200):
    x = rng.standard_normal((4, 30, 3))
    alarms += ownership.decide(ownership.fit(x[0], x[1]), x[2], x[3]).p < 0.05
  assert 1 <= alarms <= 19  # 10, give or take 3 standard deviations.


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"steps": 0}, "steps=0"),
    ({"directions": 1.5}, "directions=1.5"),
    ({"step": 0.0}, "step=0.0: a finite number above 0"),
    ({"inputs": np.full((2, 4), 7.0)}, r"in \[0, 1\]"),
    ({"inputs": np.zeros((2, 4), int)}, "pass floats"),
    ({"seed": -1}, "seed=-1: a whole number"),
    ({"seed": "a"}, "seed='a': a whole number"),
  ],
)
def test_wrong_arguments_are_named(change: dict, message: str) -> None:
  inputs = change.pop("inputs", OTHER)
  with pytest.raises(ValueError, match=message):
    ownership.blind_walk(apply_fn, OWN, inputs, **change)


def returns(make):
  """Return a model of one's own answers."""
  return lambda params, x: make(apply_fn(params, x), x)


@pytest.mark.parametrize(
  ("model", "message"),
  [
    (returns(lambda y, x: y[:, 0]), r"float32\[80\]: expected \[80, classes"),
    (returns(lambda y, x: y[:, :1]), r"float32\[80, 1\]: expected"),
    (returns(lambda y, x: y[:1]), r"float32\[1, 2\]: expected"),
    (
      returns(lambda y, x: y * jnp.nan),
      "NaN .*to 80 of 80 inputs|for 80 of 80",
    ),
  ],
)
@pytest.mark.parametrize("method", [ownership.blind_walk, ownership.margins])
def test_answers_without_a_class_are_refused(method, model, message) -> None:
  with pytest.raises(ValueError, match=message) as caught:
    method(model, OWN, OTHER)
  assert "\n" not in str(caught.value)


def test_nan_is_refused_before_a_change_of_class_and_not_behind_it() -> None:
  def model(params: dict, x: jax.Array) -> jax.Array:
    return jnp.where(x[:, :1] < 0.49, jnp.nan, apply_fn(params, x))

  near = np.float32([[0.501, 0.5, 0.5, 0.5]])  # The boundary is at 0.5.
  walk = {"directions": 2, "step": 0.002}
  assert (ownership.blind_walk(model, OWN, near, **walk) > 0).all()
  with pytest.raises(ValueError, match="answers NaN to 1 of 1 inputs"):
    ownership.blind_walk(model, {"w": jnp.zeros(4)}, near, **walk)


def test_a_ridge_that_solves_nothing_is_refused() -> None:
  same = np.ones((3, 2)) * np.arange(3.0)[:, None]
  with pytest.raises(ValueError, match="ridge=1e-300: too small"):
    ownership.fit(same, same, ridge=1e-300)


def test_distances_of_other_methods_are_refused() -> None:
  fitted = ownership.fit(np.eye(3), -np.eye(3))
  with pytest.raises(ValueError, match="2 columns; the regressor has 3"):
    ownership.confidence(fitted, np.ones((4, 2)))
  with pytest.raises(ValueError, match="3 columns of distances, other has 2"):
    ownership.fit(np.eye(3), np.ones((4, 2)))
  with pytest.raises(ValueError, match="NaN or infinite"):
    ownership.fit(np.full((3, 3), np.nan), np.eye(3))
  with pytest.raises(ValueError, match="ridge=0"):
    ownership.fit(np.eye(3), -np.eye(3), ridge=0)
