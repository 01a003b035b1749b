"""The shadow attack, and the one that sees only labels."""

import jax
import numpy as np
import pytest

from keyjax.attacks.privacy import label_only, roc, shokri

RNG = np.random.default_rng(0)
K, N = 4, 60
LABELS = np.arange(N) % 3 * 2  # The classes 0, 2 and 4.
MEMBERS = RNG.random((K, N)) < 0.5
# Members of class 0 have a greater first entry, those of 2 a smaller one, and
# those of class 4 are like others: no one model serves all classes.
SIGN = np.array([1, 0, -1, 0, 0])[LABELS]


def vectors(members):
  first = 0.5 + 0.3 * SIGN * (2 * members - 1)
  noise = RNG.normal(size=(2, *members.shape))
  return np.stack([first + 0.05 * noise[0], noise[1]], -1)


SHADOWS = vectors(MEMBERS)


def attack(**options):
  options = {"steps": 150, "learning_rate": 0.02, "batch_size": 32, **options}
  return shokri.fit(SHADOWS, LABELS, MEMBERS, **options)


def test_each_class_has_an_attack_model_of_its_own():
  found = attack()
  assert found.classes.tolist() == [0, 2, 4]
  assert found.params["in"]["kernel"].shape == (3, 2, 64)
  inside = RNG.random(N) < 0.5
  scores = shokri.scores(found, vectors(inside), LABELS)
  assert ((scores >= 0) & (scores <= 1)).all()
  for label in (0, 2):
    rows = LABELS == label
    assert roc.at_threshold(scores[rows], inside[rows], 0.5) == 1
  rows = LABELS == 4
  assert roc.at_threshold(scores[rows], inside[rows], 0.5) < 0.8
  same = attack()
  other = attack(seed=1)
  jax.tree.map(np.testing.assert_array_equal, found.params, same.params)
  assert (other.params["in"]["kernel"] != found.params["in"]["kernel"]).any()


def test_an_attack_model_computes_what_the_network_would():
  found = attack(steps=2)
  x = vectors(MEMBERS[0])
  scores = shokri.scores(found, x, LABELS)
  for j in (0, 1, 2):
    p = jax.tree.map(lambda v, j=j: v[j], found.params)
    h = np.maximum(x[j] @ p["in"]["kernel"] + p["in"]["bias"], 0)
    out = h @ p["out"]["kernel"] + p["out"]["bias"]
    wanted = 1 / (1 + np.exp(out[0] - out[1]))
    assert scores[j] == pytest.approx(wanted, rel=1e-5)
  x[3] = np.nan
  nan = np.isnan(shokri.scores(found, x, LABELS))
  assert nan.tolist() == [j == 3 for j in range(N)]


def test_a_rare_member_does_not_move_the_threshold():
  members = RNG.random((K, N)) < 0.15
  found = shokri.fit(
    vectors(members), LABELS, members, steps=150, learning_rate=0.02
  )
  inside = RNG.random(N) < 0.5
  scores = shokri.scores(found, vectors(inside), LABELS)
  rows = LABELS < 4
  assert roc.at_threshold(scores[rows], inside[rows], 0.5) > 0.95


@pytest.mark.parametrize(
  ("run", "message"),
  [
    (lambda x: shokri.fit(x[0], LABELS, MEMBERS), "vectors is"),
    (lambda x: shokri.fit(x * np.nan, LABELS, MEMBERS), "NaN or infinite"),
    (lambda x: shokri.fit(x, LABELS[1:], MEMBERS), "labels are"),
    (lambda x: shokri.fit(x, LABELS - 1, MEMBERS), "labels range from -1"),
    (lambda x: shokri.fit(x, LABELS, MEMBERS[1:]), r"pass bool\[4, 60\]"),
    (
      lambda x: shokri.fit(x, LABELS, MEMBERS & (LABELS < 4)[None]),
      "class 4 has no members",
    ),
    (lambda x: shokri.fit(x, LABELS, MEMBERS, steps=0), "steps=0"),
    (
      lambda x: shokri.fit(x, LABELS, MEMBERS, steps=9, learning_rate=1e30),
      "training diverged",
    ),
    (lambda x: shokri.scores(attack(), x[0, :, :1], LABELS), "pass .*, 2"),
    (lambda x: shokri.scores(attack(), x[0], LABELS + 1), "label 1 was no"),
  ],
)
def test_wrong_arguments_of_the_shadow_attack_are_named(run, message):
  with pytest.raises(ValueError, match=message):
    run(vectors(MEMBERS))


@pytest.mark.parametrize(
  ("options", "error", "message"),
  [
    ({"learning_rate": 0.0}, ValueError, "learning_rate=0.0: must be above 0"),
    ({"learning_rate": -1}, ValueError, "learning_rate=-1: must be above 0"),
    ({"learning_rate": np.nan}, ValueError, "learning_rate=nan"),
    ({"learning_rate": "1"}, TypeError, "learning_rate='1': a number"),
    ({"seed": -1}, ValueError, "seed=-1: a whole number, 0 or more"),
    ({"seed": "a"}, ValueError, "seed='a': a whole number"),
  ],
)
def test_wrong_settings_of_the_shadow_attack_are_named(options, error, message):
  with pytest.raises(error, match=message):
    attack(**options)


@pytest.mark.parametrize(
  "labels", [["a"] * N, None, [None] * N, np.full(N, np.nan), "a"]
)
def test_labels_that_are_no_numbers_are_named(labels):
  fitted = attack(steps=2)
  for call in (
    lambda: shokri.fit(SHADOWS, labels, MEMBERS),
    lambda: shokri.scores(fitted, SHADOWS[0], labels),
    lambda: label_only.ask(box, labels, [X]),
  ):
    with pytest.raises(ValueError, match="labels are .*: pass integers"):
      call()


def box(x):
  """Classify by the brighter half."""
  x = np.asarray(x).reshape(len(x), 4, -1)
  return (x[..., :2].sum((1, 2)) < x[..., 2:].sum((1, 2))).astype(int)


def test_what_is_far_from_the_boundary_is_right_more_often():
  distance = np.linspace(0.0, 1.0, 6, dtype=np.float32)
  x = np.zeros((6, 4, 4), np.float32)
  x[..., 2:] += distance[:, None, None] / 4
  copies = label_only.noise(x, 0.3, copies=200, bounds=None)
  found = label_only.ask(box, np.ones(6, int), copies)
  assert found.queries == 6 * 201 and found.right.shape == (6, 201)
  scores = found.scores
  assert 0.35 < scores[0] < 0.65 and scores[-1] > 0.9
  assert (np.diff(scores) > 0).all()
  again = label_only.noise(x, 0.3, copies=200, bounds=None)
  again = label_only.ask(box, np.ones(6, int), again)
  np.testing.assert_array_equal(again.right, found.right)
  clipped = list(label_only.noise(x, 9.0, copies=3))
  assert len(clipped) == 4
  assert all(c.min() >= 0 and c.max() <= 1 for c in clipped)
  assert {c.dtype for c in clipped} == {np.dtype(np.float32)}


@pytest.mark.parametrize("distance", [1, 2])
def test_translations_are_all_of_one_length(distance):
  x = np.zeros((1, 7, 7, 1), np.float32)
  x[0, 3, 3] = 1
  copies = list(label_only.translations(x, distance))
  assert len(copies) == 4 * distance + 1
  places = {tuple(np.argwhere(c[0, ..., 0])[0] - 3) for c in copies[1:]}
  assert len(places) == 4 * distance
  assert {abs(i) + abs(j) for i, j in places} == {distance}
  np.testing.assert_array_equal(copies[0], x)


def test_what_enters_an_image_is_its_background():
  x = np.array([[[0.5, 0.9], [0.9, 0.9]], [[0.0, 0.2], [0.2, 0.2]]])
  for copy in list(label_only.translations(x))[1:]:
    assert (copy.min((1, 2)) == [0.5, 0.0]).all()


X = np.zeros((3, 4, 4), np.float32)


def noise(inputs=X, **options):
  return label_only.noise(inputs, 0.1, **options)


@pytest.mark.parametrize(
  ("run", "error", "message"),
  [
    (lambda: label_only.ask(0, [0] * 3, [X]), TypeError, "predict is an int"),
    (
      lambda: label_only.ask(lambda x: x, [0] * 3, [X]),
      ValueError,
      r"predict returns float32\[3, 4, 4\]",
    ),
    (lambda: label_only.ask(box, [0] * 2, [X]), ValueError, r"integers \[2\]"),
    (lambda: label_only.ask(box, [0] * 3, []), ValueError, "no copies"),
    (lambda: label_only.ask(box, [-1] * 3, [X]), ValueError, "labels range"),
    (lambda: label_only.translations(X, 4), ValueError, "distance=4"),
    (lambda: label_only.translations(X[0]), ValueError, "pass images"),
    (lambda: label_only.noise(X, 0.0), ValueError, "scale=0.0"),
    (lambda: label_only.noise(X, 0.1, copies=0), ValueError, "copies=0"),
    (lambda: label_only.noise(X.astype(int), 0.1), ValueError, "pass floats"),
    (lambda: noise(bounds=(1, 0)), ValueError, "bounds=1, 0: two numbers in"),
    (lambda: noise(bounds=(0, np.nan)), ValueError, "bounds=0, nan: two num"),
    (lambda: noise(bounds=5), ValueError, "bounds are an int"),
    (lambda: noise(X + np.nan), ValueError, "inputs have values that are NaN"),
    (lambda: noise(X + 2), ValueError, "inputs range from 2 to 2: .*=0, 1"),
    (lambda: noise(seed=-1), ValueError, "seed=-1"),
    (lambda: noise(seed="a"), ValueError, "seed='a'"),
  ],
)
def test_wrong_arguments_of_the_label_attack_are_named(run, error, message):
  with pytest.raises(error, match=message):
    run()
