"""Gradient leakage: what it recovers, what stops it, and what it refuses."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax.attacks.privacy.gradients import (
  dense,
  labels,
  matching,
  recipes,
  scores,
)
from keyjax.attacks.privacy.gradients.observed import (
  check_observed,
  of_mean_loss,
)

CLASSES = 4
SHORT = recipes.INVERTING._replace(steps=300, restarts=2)


def forward(params: Any, images: jax.Array) -> jax.Array:
  x = images.reshape(len(images), -1)
  hidden = jax.nn.sigmoid(x @ params["kernel"] + params["bias"][None])
  return hidden @ params["head"] + params["head_bias"][None]


GRADIENT_FN = of_mean_loss(forward)


def setup(size: int = 1, seed: int = 0) -> tuple[Any, Any, Any, Any]:
  rng = np.random.default_rng(seed)
  shapes = {"kernel": (16, 8), "head": (8, CLASSES)}
  params: Any = {
    k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()
  }
  params |= {"bias": jnp.zeros(8), "head_bias": jnp.zeros(CLASSES)}
  images = jnp.asarray(rng.random((size, 4, 4, 1)), jnp.float32)
  label = rng.integers(CLASSES, size=size)
  targets = jax.nn.one_hot(label, CLASSES)
  return params, images, label, GRADIENT_FN(params, images, targets)


def match(seen: Any, recipe: recipes.Recipe = SHORT, **more: Any) -> Any:
  params, images, label, _ = setup()
  given: Any = {
    "classes": CLASSES,
    "labels": label,
    "bounds": (0.0, 1.0),
    "shape": images.shape,
  } | more
  rng = jax.random.key(1)
  shape = given.pop("shape")
  return matching.match(GRADIENT_FN, params, seen, shape, rng, recipe, **given)


def test_a_scaled_gradient_gives_the_image_and_another_one_does_not() -> None:
  """Clipping scales; the cosine does not see it."""
  _, images, _, seen = setup()
  found = match(jax.tree.map(lambda x: 0.01 * x, seen))
  assert found.distance < 1e-3 and len(found.distances) == 2
  assert np.mean((found.images - images) ** 2) < 1e-2
  other = match(setup(seed=7)[3])
  assert np.mean((other.images - images) ** 2) > 0.05
  assert other.distance > 100 * found.distance


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_dlg_finds_image_and_label(optimizer: str) -> None:
  _, images, label, seen = setup()
  steps = 300 if optimizer == "lbfgs" else 3000
  recipe = recipes.DLG._replace(optimizer=optimizer, steps=steps)
  found = match(seen, recipe, labels=None)
  assert found.labels.tolist() == label.tolist()
  assert np.mean((found.images - images) ** 2) < 1e-3


@pytest.mark.slow
def test_a_batch_is_found_up_to_its_order() -> None:
  params, images, label, seen = setup(size=2)
  found = matching.match(
    GRADIENT_FN,
    params,
    seen,
    images.shape,
    jax.random.key(0),
    recipes.IDLG,
    classes=CLASSES,
    labels=label,
  )
  unrelated = np.random.default_rng(9).random((20, 4, 4, 1))
  assert scores.score(found.images, images, unrelated).mse.max() < 1e-2


def test_a_division_gives_the_input_of_a_dense_layer() -> None:
  _, images, _, seen = jax.tree.map(np.asarray, setup())
  found = dense.of_one(seen["kernel"], seen["bias"])
  assert np.abs(found - images.reshape(-1)).max() < 1e-5
  signs = np.where(np.arange(8) % 2 > 0, -1.0, 1.0)  # As HPNN's.
  keyed = dense.of_one(seen["kernel"] * signs, seen["bias"] * signs)
  assert np.abs(keyed - found).max() < 1e-9
  noisy = seen["kernel"] + np.random.default_rng(0).normal(size=(16, 8))
  assert np.abs(dense.of_one(noisy, seen["bias"]) - found).max() > 0.1


def test_units_that_one_example_reaches_give_it() -> None:
  x = np.random.default_rng(0).random((2, 5))
  reached = np.array([[1.0, 0.5, 0.0, 0.0], [0.0, 2.0, 0.0, 3.0]])
  found = dense.of_each_unit(x.T @ reached, reached.sum(0))
  assert found.shape == (3, 5)
  assert np.allclose(found[[0, 2]], x)
  assert np.abs(found[1] - x).max(1).min() > 0.01


@pytest.mark.parametrize("seed", range(6))
def test_signs_tell_the_label_of_one_example(seed: int) -> None:
  _, _, label, seen = setup(seed=seed)
  assert labels.of_one(seen["head"]) == label[0]
  assert labels.of_batch(seen["head_bias"], 1, np.full(4, 0.25)) == label


def test_the_bias_tells_the_labels_of_a_batch() -> None:
  params, images, label, seen = setup(size=8)
  probability = jax.nn.softmax(forward(params, images)).mean(0)
  found = labels.of_batch(seen["head_bias"], 8, probability)
  assert found.tolist() == sorted(label.tolist())
  assert scores.label_accuracy(found, label, CLASSES) == 1


def test_scores_pair_images_and_name_only_what_is_near() -> None:
  images = np.random.default_rng(0).random((12, 8, 8, 1))
  found = scores.score(images[[1, 0]], images[:2], images[2:])
  assert found.order.tolist() == [1, 0] and found.named.all()
  assert found.mse.max() == 0 and found.ssim.min() > 0.999
  mean = np.repeat(images.mean(0, keepdims=True), 2, 0)
  blurred = scores.score(mean, images[:2], images[2:])
  assert blurred.ssim.max() < 0.9 and blurred.mse.min() > 0.05
  noise = np.random.default_rng(1).random((2, 8, 8, 1))
  nan = scores.score(noise * np.nan, images[:2], images[2:])
  assert np.isfinite(nan.mse).all()
  assert np.allclose(nan.mse, (images[:2] ** 2).mean((1, 2, 3)))


def test_a_gradient_of_another_tree_or_shape_is_refused() -> None:
  _, _, _, seen = setup()
  with pytest.raises(ValueError, match="another tree, of 3 leaves: .* bias"):
    match({k: v for k, v in seen.items() if k != "head"})
  with pytest.raises(ValueError, match="of kernel is float32.8, 16.: .*16, 8"):
    match(seen | {"kernel": seen["kernel"].T})
  with pytest.raises(ValueError, match="of head has values that are NaN"):
    match(seen | {"head": seen["head"].at[0, 0].set(jnp.nan)})


@pytest.mark.parametrize(
  ("more", "message"),
  [
    ({"labels": np.array([4])}, "labels range from 4 to 4"),
    ({"labels": np.array([-1])}, "labels range from -1"),
    ({"labels": np.array([0, 1])}, "labels are int64"),
    ({"labels": np.array([0.5])}, "pass integers"),
    ({"bounds": (1, 0)}, "bounds=1, 0: two numbers in rising"),
    ({"bounds": 3}, "bounds are an int"),
    ({"shape": (1, 5, 5, 1)}, r"gradient_fn fails on images \[1, 5, 5, 1\]"),
    ({"shape": ()}, r"shape\[0\]=0"),
    ({"classes": 1}, "classes=1"),
    ({"classes": 7}, "fails on images .* of 7 classes"),
    ({"recipe": SHORT._replace(optimizer="sgd")}, "optimizer='sgd'"),
    ({"recipe": SHORT._replace(distance="l1")}, "distance='l1'"),
    ({"recipe": SHORT._replace(steps=0)}, "steps=0"),
    ({"recipe": SHORT._replace(restarts=0)}, "restarts=0"),
    ({"recipe": SHORT._replace(rate=-1.0)}, "rate=-1.0"),
    ({"recipe": SHORT._replace(variation=-1.0)}, "variation=-1.0"),
  ],
)
def test_a_wrong_argument_is_named(more: Any, message: str) -> None:
  with pytest.raises(ValueError, match=message):
    match(setup()[3], **more)


def test_other_wrong_arguments_are_named() -> None:
  ones = np.ones((3, 2))
  for call, message in (
    (lambda: dense.of_one(ones, np.ones(3)), "not of one layer"),
    (lambda: dense.of_one(ones, np.zeros(2)), "no unit of the layer"),
    (lambda: dense.of_one(ones * np.nan, np.ones(2)), "kernel has values"),
    (lambda: labels.of_one(ones), "fewer than 3"),
    (lambda: labels.of_one(np.full((2, 4), np.inf)), "NaN or infinite"),
    (lambda: labels.of_batch(np.ones(3), 1, np.ones(4)), "of 3 classes"),
    (lambda: labels.of_batch(np.ones(3), 0, np.ones(3)), "size=0"),
    (lambda: scores.ssim(np.ones((8, 8, 1)), np.ones((8, 4, 1))), "images are"),
    (lambda: scores.label_accuracy([1], [9], 4), "labels range"),
  ):
    with pytest.raises(ValueError, match=message):
      call()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
  ("images", "message"),
  [
    ((np.ones((1, 8, 8, 1)), np.ones((2, 8, 8, 1))), "1 found images for 2"),
    ((np.ones((2, 4, 4, 1)), np.ones((2, 8, 8, 1))), "found images are"),
    ((np.ones((2, 8, 8, 1)), np.full((2, 8, 8, 1), 255)), "divide by 255"),
    ((np.ones((2, 8, 8, 1)), np.full((2, 8, 8, 1), np.nan)), "with NaN"),
    ((np.ones((2, 64)), np.ones((2, 8, 8, 1))), "pass numbers, 4 axes"),
  ],
)
def test_images_that_do_not_fit_are_refused(images: Any, message: str) -> None:
  with pytest.raises(ValueError, match=message):
    scores.score(images[0], images[1], np.ones((3, 8, 8, 1)))


def test_a_model_whose_gradients_are_nan_is_named() -> None:
  params, images, label, seen = setup()
  broken = params | {"head": params["head"].at[0, 0].set(jnp.nan)}
  with pytest.raises(ValueError, match="every image that was tried is NaN"):
    matching.match(
      GRADIENT_FN,
      broken,
      seen,
      images.shape,
      jax.random.key(1),
      SHORT,
      classes=CLASSES,
      labels=label,
      bounds=(0.0, 1.0),
    )


def test_a_function_that_is_none_is_refused() -> None:
  with pytest.raises(TypeError, match="of_mean_loss: apply_fn"):
    of_mean_loss(3)
  params, images, _, seen = setup()
  found = check_observed(GRADIENT_FN, params, seen, images.shape, CLASSES)
  jax.tree.map(np.testing.assert_array_equal, found, seen)
