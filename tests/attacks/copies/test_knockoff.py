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
