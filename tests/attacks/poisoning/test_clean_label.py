"""Poison with right labels: collisions of features, matched gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from keyjax.attacks.poisoning import collision, gradient_matching
from tests.attacks import toys

RNG = jax.random.key(0)
EPSILON = 0.2
PROJECTION = jax.random.normal(jax.random.key(1), (64, 4)) / 8


def features(x):
  return jnp.tanh(x.reshape(len(x), -1) @ PROJECTION)


def linear(params, x):
  return x.reshape(len(x), -1) @ params["w"]


def test_features_collide_and_inputs_do_not() -> None:
  images, _ = toys.digits()[0]
  found = collision.collide(
    features, images[:5], images[9], beta=0.01, learning_rate=0.5,
    epsilon=EPSILON,
  )  # fmt: skip
  assert (found.distance < 0.5 * found.before).all()
  assert (found.distance < 0.1 * found.before).sum() >= 2
  change = np.abs(found.image - images[:5])
  assert 0.05 < change.max() <= EPSILON + 1e-6
  assert 0 <= found.image.min() and found.image.max() <= 1
  assert np.linalg.norm(found.image[0] - images[9]) > 1
  want = features(found.image) - features(jnp.asarray(images[9:10]))
  np.testing.assert_allclose(
    found.distance, np.linalg.norm(want, axis=1), atol=1e-5
  )


def test_a_strong_pull_keeps_the_base() -> None:
  images, _ = toys.digits()[0]
  found = collision.collide(
    features, images[:2], images[9], beta=1e6, learning_rate=0.5, steps=20
  )
  np.testing.assert_allclose(found.image, images[:2], atol=1e-4)


def test_collisions_compile() -> None:
  images = jnp.asarray(toys.digits()[0].image[:2])
  numbers = jnp.asarray([0.1, 0.5, 1.0, 0.0, 1.0])
  run = functools.partial(collision._collide, features, 5)
  eager = run(images, images[:1], numbers)
  jitted = jax.jit(run)(images, images[:1], numbers)
  np.testing.assert_allclose(eager.image, jitted.image, atol=1e-5)


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    ({"target": np.ones((4, 4))}, r"target has shape \[4, 4\]"),
    ({"bases": np.full((1, 8, 8, 1), np.nan)}, "bases.0. is not finite"),
    ({"beta": -1.0}, "beta=-1.0"),
    ({"epsilon": 0.0}, "epsilon=0.0"),
    ({"steps": 0}, "steps=0"),
  ],
)
def test_bad_collisions_are_refused(changed, message) -> None:
  given = {"bases": np.ones((1, 8, 8, 1)), "target": np.ones((8, 8, 1))}
  with pytest.raises(ValueError, match=message):
    collision.collide(features, **(given | changed))
  with pytest.raises(ValueError, match="features are not finite"):
    collision.collide(lambda x: features(x) * jnp.nan, **given)
  with pytest.raises(TypeError, match="collision: features_fn"):
    collision.collide(3, **given)


MODELS = {
  "w": 0.3 * jax.random.normal(jax.random.key(2), (2, 64, 10), jnp.float32)
}


def match(**changed):
  images, labels = toys.digits()[0]
  own = np.flatnonzero(labels == 3)[:6]
  given = {
    "inputs": images[own],
    "labels": labels[own],
    "target": images[np.flatnonzero(labels == 7)[0]],
    "wanted": 3,
    "classes": 10,
    "epsilon": EPSILON,
    "steps": 60,
    "restarts": 2,
    "rng": RNG,
  } | changed
  return given, gradient_matching.match(linear, MODELS, **given)


def slope(params, images, labels):
  def loss(params):
    logits = linear(params, jnp.asarray(images))
    found = optax.softmax_cross_entropy_with_integer_labels(
      logits, jnp.asarray(labels)
    )
    return found.mean()

  return loss(params), jax.grad(loss)(params)["w"]


def test_gradients_are_aligned_within_epsilon() -> None:
  given, found = match()
  change = np.abs(found.image - given["inputs"])
  assert change.max() <= EPSILON + 1e-6
  assert 0 <= found.image.min() and found.image.max() <= 1
  assert found.loss < found.before - 0.1
  cosines = []
  for i in range(2):
    params = {"w": MODELS["w"][i]}
    _, a = slope(params, found.image, given["labels"])
    _, b = slope(params, given["target"][None], np.asarray([3]))
    norms = jnp.linalg.norm(a) * jnp.linalg.norm(b)
    cosines.append(float(jnp.vdot(a, b) / norms))
  assert 1 - np.mean(cosines) == pytest.approx(found.loss, abs=1e-4)
  np.testing.assert_array_equal(match()[1].image, found.image)


def test_a_step_on_the_poison_moves_the_target() -> None:
  given, found = match()
  params = {"w": MODELS["w"][0]}
  target = given["target"][None], np.asarray([3])
  before, _ = slope(params, *target)
  falls = []
  for images in (given["inputs"], found.image):
    _, direction = slope(params, images, given["labels"])
    direction = direction / jnp.linalg.norm(direction)
    after, _ = slope({"w": params["w"] - 0.05 * direction}, *target)
    falls.append(float(before - after))
  assert falls[1] > falls[0] > -1 and falls[1] > 0


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    ({"wanted": 10}, "wanted=10"),
    ({"labels": [3]}, "inputs are 6, and there are 1 labels"),
    ({"target": np.ones((2, 2))}, r"target has shape \[2, 2\]"),
    ({"epsilon": 0.0}, "epsilon=0.0"),
    ({"restarts": 0}, "restarts=0"),
    ({"inputs": np.full((6, 8, 8, 1), np.inf)}, "inputs.0. is not finite"),
  ],
)
def test_bad_matches_are_refused(changed, message) -> None:
  with pytest.raises(ValueError, match=message):
    match(**changed)


def test_models_without_gradients_are_refused() -> None:
  given, _ = match(steps=1)
  broken = {"w": MODELS["w"] * jnp.nan}
  with pytest.raises(ValueError, match="gradients that are not finite"):
    gradient_matching.match(linear, broken, **given)
  with pytest.raises(TypeError, match="gradient_matching: apply_fn"):
    gradient_matching.match(3, MODELS, **given)
