"""A vote of partitions: its certificate against the attack that it bounds."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax.attacks import fit
from keyjax.attacks.game import Examples
from keyjax.defenses.poisoning import partitions
from tests.attacks import toys

K = 8
RECIPE = fit.Recipe("sgd", 0.2, batch_size=16)
DATA = Examples(toys.digits()[0].image[:600], toys.digits()[0].label[:600])
TEST = toys.digits()[1].image[:100]


def linear(params, x):
  return x.reshape(len(x), -1) @ params["w"]


def init(rng):
  return {"w": 0.1 * jax.random.normal(rng, (64, 10), jnp.float32)}


def counts(data: Examples, inputs: np.ndarray = TEST) -> np.ndarray:
  models = partitions.train(linear, init, data, K, 10, RECIPE, steps=40)
  return partitions.votes(linear, models, inputs)


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
  return counts(DATA)


def test_a_part_is_decided_by_content_alone() -> None:
  whole = partitions.assign(DATA.image, K)
  order = np.random.default_rng(0).permutation(600)
  np.testing.assert_array_equal(
    partitions.assign(DATA.image[order][:50], K), whole[order][:50]
  )
  assert np.bincount(whole, minlength=K).min() > 40
  negative = np.asarray([[-0.0, 1.0]])
  assert partitions.content(negative) == partitions.content(abs(negative))


def test_the_order_of_examples_changes_nothing(clean: np.ndarray) -> None:
  order = np.random.default_rng(1).permutation(600)
  again = Examples(DATA.image[order], DATA.label[order])
  np.testing.assert_array_equal(counts(again), clean)


def poison(x: np.ndarray, label: int, parts: list[int], copies: int):
  """Return near copies of an input in some parts, all with a wrong label."""
  found, noise = [], np.random.default_rng(0)
  for part in parts:
    left = copies
    while left:
      made = np.clip(x + noise.uniform(0, 1e-3, x.shape), 0, 1)
      if partitions.assign(made[None], K)[0] == part:
        found.append(made)
        left -= 1
  return np.asarray(found, np.float32), np.full(len(found), label, np.int32)


def added(images: np.ndarray, labels: np.ndarray) -> Examples:
  return Examples(
    np.concatenate([DATA.image, images]), np.concatenate([DATA.label, labels])
  )


def test_no_insertions_within_the_radius_change_the_label(
  clean: np.ndarray,
) -> None:
  certified = partitions.certify(clean)
  index = int(np.argmax(certified.radius >= 2))
  radius, label = int(certified.radius[index]), certified.label[index]
  rival = int(np.argsort(clean[index])[-2])
  x = TEST[index]
  inside = counts(added(*poison(x, rival, list(range(radius)), 1)), TEST)
  assert partitions.certify(inside).label[index] == label
  # Parts that no example entered vote as before.
  moved = np.abs(inside - clean).sum(1) // 2
  assert moved.max() <= radius
  # The attack is real: with copies in every part, the label falls.
  outside = counts(added(*poison(x, rival, list(range(K)), 12)), TEST)
  assert partitions.certify(outside).label[index] == rival


def test_removed_and_relabelled_examples_move_one_vote_each(
  clean: np.ndarray,
) -> None:
  label = DATA.label.copy()
  label[0] = (label[0] + 1) % 10
  relabelled = counts(Examples(DATA.image, label))
  removed = counts(Examples(DATA.image[1:], DATA.label[1:]))
  for found in (relabelled, removed):
    assert np.abs(found - clean).sum(1).max() <= 2
    safe = partitions.certify(clean)
    kept = partitions.certify(found).label == safe.label
    assert kept[safe.radius >= 1].all()


def test_the_radius_is_the_least_that_an_attacker_of_votes_needs() -> None:
  """Every way to move votes, of five models and three classes."""
  for given in itertools.product(range(3), repeat=5):
    votes = np.bincount(given, minlength=3)[None]
    found = partitions.certify(votes)
    fooled = [
      sum(a != b for a, b in zip(given, other, strict=True))
      for other in itertools.product(range(3), repeat=5)
      if np.bincount(other, minlength=3).argmax() != found.label[0]
    ]
    assert found.radius[0] == min(fooled) - 1


def test_a_part_without_examples_has_a_model() -> None:
  few = Examples(DATA.image[:3], DATA.label[:3])
  found = counts(few)
  assert (found.sum(1) == K).all()
  more = added(DATA.image[3:4], DATA.label[3:4])
  one = Examples(more.image[[0, 1, 2, -1]], more.label[[0, 1, 2, -1]])
  assert np.abs(counts(one) - found).sum(1).max() <= 2


@pytest.mark.parametrize(
  ("data", "k", "message"),
  [
    (Examples(DATA.image, DATA.label + 1), K, "labels range from 1 to 10"),
    (Examples(DATA.image[:9], DATA.label), K, "inputs are 9"),
    (Examples(DATA.image * np.nan, DATA.label), K, "not finite"),
    (DATA, 0, "k=0"),
  ],
)
def test_bad_data_are_refused(data, k, message) -> None:
  with pytest.raises(ValueError, match=message):
    partitions.train(linear, init, data, k, 10, RECIPE)


@pytest.mark.parametrize(
  "counts", [[1, 2], [[0.5, 0.5]], [[3]], [[-1, 2]], np.zeros((0, 2), int)]
)
def test_bad_counts_are_refused(counts) -> None:
  with pytest.raises(ValueError, match="counts"):
    partitions.certify(counts)
