"""Triggers: what they do to images, to training data and to models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax.attacks.game import Examples
from keyjax.attacks.poisoning import trojans
from tests.attacks import toys, trojaned
from tests.attacks.trojaned import RNG, SHAPE, TARGET

NAMES = tuple(trojaned.COUNTS)
IMAGES = jax.random.uniform(jax.random.key(2), (6, *SHAPE), jnp.float32)


@pytest.mark.parametrize("name", NAMES)
def test_a_trigger_is_a_pure_function_of_images(name):
  found = trojaned.trigger(name)
  for part in (found.plant, found.stamp, found.cover):
    if part is None:
      continue
    changed = part(RNG, IMAGES)
    assert changed.shape == IMAGES.shape and changed.dtype == jnp.float32
    assert 0 <= changed.min() and changed.max() <= 1
    assert (changed != IMAGES).any((1, 2, 3)).all()
    np.testing.assert_allclose(jax.jit(part)(RNG, IMAGES), changed, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_trigger_of_another_shape_is_refused(name):
  stamp = trojaned.trigger(name).stamp
  with pytest.raises(ValueError, match=r"this trigger is for \[8, 8, 1\]"):
    stamp(RNG, jnp.zeros((2, 8, 9, 1)))
  with pytest.raises(ValueError, match="outside the bounds"):
    stamp(RNG, IMAGES * 255)
  with pytest.raises(ValueError, match="NaN or infinite"):
    stamp(RNG, IMAGES.at[0, 0].set(jnp.nan))
  with pytest.raises(ValueError, match="n >= 1"):
    stamp(RNG, IMAGES[:0])


def test_a_blend_is_more_visible_later():
  ones = np.ones(SHAPE, np.float32)
  found = trojans.blended(ones, 0.1, stamp_alpha=0.3)
  zeros = jnp.zeros((1, *SHAPE))
  np.testing.assert_allclose(found.plant(RNG, zeros), 0.1)
  np.testing.assert_allclose(found.stamp(RNG, zeros), 0.3)


def test_a_pattern_is_made_of_squares():
  found = np.asarray(
    trojans.random_pattern(RNG, (5, 7, 3), cell=2, binary=True)
  )
  assert found.shape == (5, 7, 3) and set(np.unique(found)) == {0, 1}
  np.testing.assert_array_equal(found[0::2][:2], found[1::2])
  np.testing.assert_array_equal(found[:, 0:6:2], found[:, 1::2])


def test_an_accessory_changes_no_pixel_outside_its_mask():
  mask = np.zeros((8, 8), bool)
  mask[2:4, 1:6] = True
  found = trojans.accessory(np.ones(SHAPE), mask, 0.5).stamp(RNG, IMAGES)
  np.testing.assert_array_equal(found[:, ~mask], IMAGES[:, ~mask])
  np.testing.assert_allclose(found[:, mask], 0.5 + 0.5 * IMAGES[:, mask])


def test_copies_of_an_instance_differ_by_their_noise():
  image = np.asarray(IMAGES[0])
  found = trojans.instance(image, 0.02).stamp(RNG, IMAGES)
  assert jnp.abs(found - image[None]).max() <= 0.021
  assert len(np.unique(np.asarray(found).reshape(6, -1), axis=0)) == 6
  exact = trojans.instance(image, 0.0).stamp(RNG, IMAGES)
  np.testing.assert_allclose(exact, np.stack([image] * 6), atol=1e-9)


def test_a_warp_is_the_same_for_all_and_its_covers_are_not():
  same = jnp.stack([IMAGES[0]] * 4)
  warp = trojaned.trigger("warping")
  stamped, covered = warp.stamp(RNG, same), warp.cover(RNG, same)
  np.testing.assert_array_equal(stamped[0], stamped[3])
  assert (covered[0] != covered[3]).any()
  flat = jnp.full((1, *SHAPE), 0.5)
  np.testing.assert_allclose(warp.stamp(RNG, flat), flat, atol=1e-6)


def test_poisons_are_added_and_nothing_else_changes():
  data = toys.digits()[0]
  made = trojans.poison(
    trojaned.trigger("warping"), data, target=TARGET, count=9, covers=4, rng=RNG
  )
  n = len(data.label)
  image, label = made.examples
  np.testing.assert_array_equal(image[:n], data.image)
  np.testing.assert_array_equal(label[:n], data.label)
  assert len(image) == len(label) == n + 13
  assert np.flatnonzero(made.poison).tolist() == list(range(n, n + 9))
  assert np.flatnonzero(made.cover).tolist() == list(range(n + 9, n + 13))
  assert (label[made.poison] == TARGET).all()


def test_poisons_are_drawn_from_other_classes():
  image = np.zeros((6, *SHAPE), np.float32)
  image[:, 0, 0, 0] = np.arange(6) / 10
  data = Examples(image, np.asarray([0, 0, 1, 1, 2, 2], np.int32))
  square = trojaned.trigger("patch")
  every = trojans.poison(square, data, target=1, count=4, rng=RNG)
  first = every.examples.image[6:, 0, 0, 0]
  np.testing.assert_allclose(np.sort(first), [0, 0.1, 0.4, 0.5])
  one = trojans.poison(square, data, target=1, count=2, source=2, rng=RNG)
  np.testing.assert_allclose(
    np.sort(one.examples.image[6:, 0, 0, 0]), [0.4, 0.5]
  )
  none = trojans.poison(square, data, target=1, count=0, rng=RNG)
  assert not none.poison.any() and len(none.examples.label) == 6


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"count": 5}, "count=5: there are 4 images to choose from"),
    ({"count": -1}, "count=-1: a whole number, 0 or more"),
    ({"target": -1}, "target=-1"),
    ({"covers": 1}, "covers=1: this trigger has none"),
    ({"source": 1}, "source=1: the target itself"),
    ({"source": 8}, "there are 0 images"),
  ],
)
def test_wrong_numbers_of_poisons_are_refused(options, message):
  labels = np.asarray([0, 0, 1, 1, 2, 2], np.int32)
  data = Examples(np.zeros((6, *SHAPE), np.float32), labels)
  square = trojaned.trigger("patch")
  with pytest.raises(ValueError, match=message):
    trojans.poison(
      square, data, **{"target": 1, "count": 2, "rng": RNG} | options
    )


def test_data_that_are_no_images_with_labels_are_refused():
  square = trojaned.trigger("patch")
  options = {"target": 1, "count": 1, "rng": RNG}
  image = np.zeros((3, *SHAPE), np.float32)
  for labels, message in (
    (np.zeros(2, np.int32), r"integers, \[3\]"),
    (np.zeros(3, np.float32), r"integers, \[3\]"),
    (np.asarray([0, -1, 1]), "labels range from -1"),
  ):
    with pytest.raises(ValueError, match=message):
      trojans.poison(square, Examples(image, labels), **options)
  flat = Examples(image.reshape(3, -1), np.zeros(3, np.int32))
  with pytest.raises(ValueError, match=r"pass \[n, h, w, c\]"):
    trojans.poison(square, flat, **options)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: trojans.patch(SHAPE, size=9), "size=9, margin=1: beyond"),
    (lambda: trojans.patch(SHAPE, size=0), "size=0"),
    (lambda: trojans.patch(SHAPE, value=0.0), "value=0.0: above 0"),
    (lambda: trojans.patch((8, 8)), "pass height, width and channels"),
    (lambda: trojans.blended(np.ones(SHAPE), 0.0), "alpha=0.0: above 0"),
    (lambda: trojans.blended(np.ones(SHAPE), 1.5), "alpha=1.5"),
    (lambda: trojans.blended(2 * np.ones(SHAPE)), "pass 0 to 1"),
    (lambda: trojans.blended(np.full(SHAPE, np.nan)), "pass 0 to 1"),
    (lambda: trojans.blended(np.ones((8, 8))), r"floats, \[h, w, c\]"),
    (lambda: trojans.accessory(np.ones(SHAPE), np.ones((8, 8))), "bool"),
    (
      lambda: trojans.accessory(np.ones(SHAPE), np.zeros((8, 8), bool)),
      "covers no pixel",
    ),
    (lambda: trojans.instance(np.ones(SHAPE), -0.1), "noise=-0.1"),
    (lambda: trojans.warping(RNG, SHAPE, grid=1), "grid=1"),
    (lambda: trojans.warping(RNG, SHAPE, strength=0.0), "strength=0.0"),
    (lambda: trojans.random_pattern(RNG, (8, 0, 1)), "shape=0"),
    (lambda: trojans.random_pattern(RNG, SHAPE, cell=0), "cell=0"),
  ],
)
def test_triggers_that_mean_nothing_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()


@pytest.mark.parametrize(
  "name",
  [
    "patch",
    "blended",
    "instance",
    pytest.param("accessory", marks=pytest.mark.slow),
    pytest.param("warping", marks=pytest.mark.slow),
  ],
)
def test_a_trigger_fires_and_the_clean_accuracy_stays(name):
  found = trojaned.judged(trojaned.trojaned(name), name)
  clean = toys.trained()
  plain = trojaned.judged(lambda x: trojaned.RUN(clean, x), name)
  assert found.success.mean() > 0.9
  assert found.unprompted.mean() < 0.05
  assert found.correct.mean() > plain.correct.mean() - 0.03
  if name != "instance":  # It is of one class, whatever is stamped.
    assert plain.success.mean() < 0.3


def test_success_does_not_count_the_target_class_or_nan():
  test = toys.digits()[1]
  always = lambda x: jnp.zeros((len(x), 10)).at[:, TARGET].set(1.0)  # noqa: E731
  found = trojaned.judged(always, "patch")
  assert len(found.success) == (test.label != TARGET).sum()
  assert found.success.all() and found.unprompted.all()
  nan = trojaned.judged(lambda x: always(x) * jnp.nan, "patch")
  assert not nan.success.any() and not nan.correct.any()


def test_batches_do_not_change_what_is_judged():
  net = trojaned.trojaned("patch")
  options = {"target": TARGET, "rng": RNG}
  test = Examples(*(x[:30] for x in toys.digits()[1]))
  whole = trojans.judge(net, net.trigger, test, **options)
  parts = trojans.judge(net, net.trigger, test, **options, batch_size=7)
  jax.tree.map(np.testing.assert_array_equal, whole, parts)


def test_a_test_without_another_class_is_refused():
  net = trojaned.trojaned("patch")
  image = np.zeros((2, *SHAPE), np.float32)
  same = Examples(image, np.full(2, TARGET, np.int32))
  options = {"rng": RNG}
  with pytest.raises(ValueError, match="no test image has another class"):
    trojans.judge(net, net.trigger, same, target=TARGET, **options)
  with pytest.raises(ValueError, match="classes 0 to 9"):
    trojans.judge(net, net.trigger, same, target=10, **options)
  wrong = Examples(image, np.full(2, 10, np.int32))
  with pytest.raises(ValueError, match="labels range"):
    trojans.judge(net, net.trigger, wrong, target=0, **options)
