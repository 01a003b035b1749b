"""Substitutes of black boxes: exact queries, known directions, agreement."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.tree

import keyjax
from keyjax.attacks.fit import Recipe
from keyjax.attacks.game import Examples
from keyjax.attacks.substitute import substitute
from tests.attacks import toys

TRAIN, TEST = toys.digits()
SEEDS = TEST.image[:50]
STILL = Recipe(learning_rate=0.0)
FAST = Recipe(learning_rate=5e-3)


class Box:
  """A black box that remembers what it was asked."""

  def __init__(self, labels: Any) -> None:
    self.labels = labels
    self.asked: list[np.ndarray] = []

  def __call__(self, inputs: np.ndarray) -> np.ndarray:
    assert isinstance(inputs, np.ndarray), "a box may be anything on the host"
    self.asked.append(inputs)
    return self.labels(inputs)


@pytest.fixture(scope="module")
def network() -> Any:
  params = toys.trained()
  return lambda x: np.asarray(toys.NET.apply(params, x).argmax(-1))


def start() -> Any:
  return toys.init(jax.random.key(1))


def test_it_agrees_more_with_each_round(network) -> None:
  box, others = Box(network), TEST.image[50:]
  found = substitute(
    box,
    toys.NET.apply,
    start(),
    SEEDS,
    rounds=5,
    reservoir=200,
    reservoir_after=2,
    train_steps=100,
    recipe=FAST,
    held_out=Examples(others, network(others)),
  )
  assert [len(x) for x in box.asked] == [50, 50, 100, 200, 200, 200]
  assert found.queries == 800
  assert found.agreement.shape == (6,)
  assert found.agreement[-1] > max(0.8, found.agreement[0] + 0.01)
  logits = toys.NET.apply(found.params, others)
  own = (np.asarray(logits.argmax(-1)) == network(others)).mean()
  np.testing.assert_allclose(own, found.agreement[-1])


def linear(params: Any, x: jax.Array) -> jax.Array:
  return x @ params["kernel"]


def slopes() -> Any:
  """Return weights of which the first class has the greater slope in x_0."""
  return {"kernel": jnp.asarray([[1.0, -1.0], [-2.0, 2.0]])}


def test_steps_follow_the_labels_class_and_alternate() -> None:
  """The box's label decides, even where the substitute has another class."""
  seeds = np.asarray([[0.5, 0.5], [0.55, 0.95]], np.float32)
  box = Box(lambda x: (x[:, 0] > 0.52).astype(np.int64))
  substitute(box, linear, slopes(), seeds, rounds=2, flip_every=1, recipe=STILL)
  first = np.asarray([[0.6, 0.4], [0.45, 1.0]])  # Clipped to the box.
  np.testing.assert_allclose(box.asked[1], first, atol=1e-6)
  # The points of the first round have labels of their own: 1 and 0.
  second = np.asarray([[0.4, 0.6], [0.65, 0.85], [0.7, 0.3], [0.35, 1.0]])
  np.testing.assert_allclose(box.asked[2], second, atol=1e-6)


def test_a_reservoir_holds_different_earlier_inputs() -> None:
  seeds = np.random.default_rng(0).uniform(0.3, 0.7, (8, 2))
  seeds = seeds.astype(np.float32)
  box = Box(lambda x: np.arange(len(x)) % 2)
  found = substitute(
    box,
    linear,
    slopes(),
    seeds,
    rounds=3,
    reservoir=5,
    reservoir_after=1,
    recipe=STILL,
  )
  assert [len(x) for x in box.asked] == [8, 8, 5, 5] and found.queries == 26
  known = np.concatenate(box.asked[:2])
  moves = np.abs(box.asked[2][:, None] - known[None]).max(-1)  # [5, 16]
  parents = np.argwhere(np.isclose(moves, 0.1, atol=1e-6))
  assert set(parents[:, 0]) == set(range(5)), "each has moved by one step"
  assert len(np.unique(box.asked[2], axis=0)) == 5
  again = Box(box.labels)
  for seed, same in ((0, True), (1, False)):
    again.asked.clear()
    substitute(
      again,
      linear,
      slopes(),
      seeds,
      rounds=3,
      reservoir=5,
      reservoir_after=1,
      recipe=STILL,
      seed=seed,
    )
    assert np.array_equal(again.asked[2], box.asked[2]) == same


def test_boxes_of_other_kinds() -> None:
  """A tree, and a network behind a key that only the server has."""
  images = TRAIN.image.reshape(len(TRAIN.image), -1)
  tree = sklearn.tree.DecisionTreeClassifier(random_state=0)
  tree.fit(images, TRAIN.label)
  target = toys.target(keyjax.deep_lock("counter"), "deep_lock")
  authorised = target.authorized()
  boxes = {
    "tree": lambda x: tree.predict(x.reshape(len(x), -1)),
    "keyed": lambda x: np.asarray(
      authorised.apply_fn(authorised.params, x).argmax(-1)
    ),
  }
  others = TEST.image[50:]
  for name, box in boxes.items():
    found = substitute(
      box,
      toys.NET.apply,
      start(),
      SEEDS,
      rounds=3,
      train_steps=100,
      recipe=FAST,
      held_out=Examples(others, box(others)),
    )
    assert found.queries == 400 and found.agreement[-1] > 0.6, name


def test_a_second_box_compiles_nothing() -> None:
  traces = []

  def counted(params: Any, x: jax.Array) -> jax.Array:
    traces.append(x.shape)
    return linear(params, x)

  seeds = np.full((4, 2), 0.5, np.float32)
  options: dict[str, Any] = {"rounds": 1, "train_steps": 2}
  boxes = [lambda x: np.zeros(len(x), int), lambda x: np.ones(len(x), int)]
  substitute(boxes[0], counted, slopes(), seeds, **options)
  first = len(traces)
  substitute(boxes[1], counted, slopes(), seeds, **options)
  # The check of the arguments traces once more, but compiles nothing.
  assert first > 2 and len(traces) == first + 1


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"rounds": -1}, "rounds is -1"),
    ({"step": 0.0}, "step is 0.0"),
    ({"flip_every": 0}, "flip_every is 0"),
    ({"reservoir": 0}, "reservoir is 0"),
    ({"reservoir_after": -1}, "reservoir_after is -1"),
    ({"train_steps": 0}, "train_steps is 0"),
    ({"bounds": (0.6, 1.0)}, "outside the bounds"),
    (
      {"held_out": Examples(SEEDS[:2], np.asarray([0, 2]))},
      "held_out",
    ),
    ({"recipe": Recipe(learning_rate=float("inf"))}, "training diverged"),
  ],
)
def test_refuses(options: dict, message: str) -> None:
  seeds = np.full((4, 2), 0.5, np.float32)
  options = {"rounds": 1, "train_steps": 2, **options}
  with pytest.raises(ValueError, match=message):
    substitute(
      lambda x: np.zeros(len(x), int), linear, slopes(), seeds, **options
    )


@pytest.mark.parametrize(
  "labels",
  [
    lambda x: np.zeros(len(x)),  # Floats.
    lambda x: np.zeros((len(x), 1), int),
    lambda x: np.full(len(x), 2),  # The substitute has two classes.
  ],
)
def test_refuses_an_oracle_without_labels(labels: Any) -> None:
  seeds = np.full((4, 2), 0.5, np.float32)
  with pytest.raises(ValueError, match="labels of the oracle"):
    substitute(labels, linear, slopes(), seeds, rounds=1)
