"""Copies learn what was answered, and nothing from what was not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax.attacks import fit
from keyjax.attacks.copies import knockoff, likeness
from keyjax.attacks.game import Examples
from keyjax.attacks.privacy import stacked

_RNG = np.random.default_rng(0)
SECRET = _RNG.standard_normal((6, 3)).astype(np.float32)
ASKED = _RNG.random((60, 6)).astype(np.float32) - 0.5
NEW = _RNG.random((500, 6)).astype(np.float32) - 0.5
RECIPE = fit.Recipe(learning_rate=0.1, batch_size=16)


def apply_fn(params: dict, x: jax.Array) -> jax.Array:
  return x @ params["w"]


def init(rng: jax.Array) -> dict:
  return {"w": jax.random.normal(rng, (6, 3))}


def trained(answers: np.ndarray, counts: tuple[int, ...]) -> np.ndarray:
  members = np.arange(60) < np.asarray(counts)[:, None]
  answered = Examples(ASKED, answers)
  params = knockoff.train(
    apply_fn, init, answered, members, RECIPE, steps=60, chunk=4
  )
  found = stacked.answers(apply_fn, params, NEW)
  return likeness.agreement(found, NEW @ SECRET)


def test_a_copy_agrees_with_its_victim_and_more_queries_help() -> None:
  """In the order that was asked for, though small ones train apart."""
  many, few, most = trained(8 * ASKED @ SECRET, (30, 3, 60))
  assert min(many, most) > 0.75
  assert few < min(many, most) - 0.1


def test_answers_of_other_queries_are_worth_nothing() -> None:
  answers = 8 * ASKED @ SECRET
  control = knockoff.swapped(answers, seed=1)
  assert sorted(map(tuple, control)) == sorted(map(tuple, answers))
  assert trained(control, (60,))[0] < 0.7


def test_answers_that_are_not_finite_say_nothing() -> None:
  answers = np.array([[np.nan, 0.0], [np.inf, 0.0], [1.0, 2.0], [3.0, 0.0]])
  found = knockoff.read(answers)
  assert found.lost == 0.5
  assert found.logits.tolist() == [[0, 0], [0, 0], [1, 2], [3, 0]]


def test_a_probability_of_zero_is_an_answer() -> None:
  with np.errstate(divide="ignore"):
    found = knockoff.read(np.log(np.eye(3, dtype=np.float32)))
  assert found.lost == 0
  assert np.allclose(found.logits, 87.3 * (np.eye(3) - 1), atol=0.1)
  low = knockoff.read(np.array([[-500.0, -np.inf, 0.0], [-np.inf] * 3]))
  assert low.lost == 0.5
  assert low.logits.tolist() == [[-500, -500, 0], [0, 0, 0]]


def test_answers_in_bfloat16_are_read() -> None:
  answers = jnp.asarray([[1.0, 2.0], [jnp.nan, 0.0]], jnp.bfloat16)
  found = knockoff.read(answers)
  assert found.lost == 0.5 and found.logits.tolist() == [[1, 2], [0, 0]]
  assert knockoff.read(answers.astype(jnp.float16)).lost == 0.5


@pytest.mark.parametrize("n", [2, 3, 4, 50])
def test_no_answer_of_a_control_is_that_of_its_query(n: int) -> None:
  answers = np.arange(2.0 * n).reshape(n, 2)
  for seed in range(20):
    found = knockoff.swapped(answers, seed)
    assert (found != answers).all()
    assert np.array_equal(np.sort(found, 0), answers)


def test_one_answer_has_no_control() -> None:
  with pytest.raises(ValueError, match=r"answers are float64\[1, 2\]: .* 2 qu"):
    knockoff.swapped(np.ones((1, 2)))
  with pytest.raises(ValueError, match="seed=-1"):
    knockoff.swapped(np.ones((2, 2)), -1)


@pytest.mark.parametrize(
  ("change", "error", "message"),
  [
    ({"recipe": None}, TypeError, "recipe is None: pass a fit.Recipe"),
    ({"recipe": RECIPE._replace(learning_rate=0.0)}, ValueError, "learning_ra"),
    ({"recipe": RECIPE._replace(learning_rate=-1)}, ValueError, "learning_rat"),
    (
      {"answered": (ASKED, ASKED)},
      TypeError,
      "data are a tuple: pass Examples",
    ),
    ({"init": 5}, TypeError, "init is an int, not a function"),
    ({"seed": "a"}, ValueError, "seed='a': a whole number"),
    ({"temperature": 0.0}, ValueError, "temperature=0.0"),
  ],
)
def test_arguments_of_another_kind_are_named(
  change: dict, error: type[Exception], message: str
) -> None:
  given = {
    "apply_fn": apply_fn,
    "init": init,
    "answered": Examples(ASKED, np.zeros((60, 3))),
    "members": np.ones((2, 60), bool),
    "recipe": RECIPE,
  }
  with pytest.raises(error, match=message):
    knockoff.train(**given | change)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"label": np.full((60, 3), np.nan)}, "100% of them not finite"),
    ({"label": np.zeros((9, 3))}, "60 queries have 9 answers"),
    (
      {"label": np.zeros((60, 4))},
      r"float32\[1, 3\]: the answers need \[1, 4\]",
    ),
    ({"label": np.zeros(60, int)}, "pass floats"),
    ({"members": np.zeros((2, 60), bool)}, "copy 0 has no answered query"),
    ({"members": np.ones((2, 9), bool)}, r"pass bool\[2, 60\]"),
    ({"init": lambda rng: {"v": jnp.zeros(3)}}, "apply_fn fails on what init"),
  ],
)
def test_wrong_arguments_are_named(change: dict, message: str) -> None:
  label = change.get("label", np.zeros((60, 3)))
  members = change.get("members", np.ones((2, 60), bool))
  make = change.get("init", init)
  with pytest.raises(ValueError, match=message):
    knockoff.train(apply_fn, make, Examples(ASKED, label), members, RECIPE)
