"""U-Net and detector: shapes, one training step, and what does not fit."""

import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from experiments import data, models
from experiments.protection import check
from experiments.protection.lock import build_all
from experiments.run.config import base, scheme, set_schemes
from experiments.training import train
from experiments.training.optimizer import make_optimizer
from experiments.training.step import State, make_step
from keyjax import parallel, tasks
from tests import trees

MODELS = {
  "masks": ("unet", {"width": 2, "depth": 1}),
  "boxes": ("detector", {"features": (2, 4), "convs": (1, 1), "branch": 4}),
}
each_task = pytest.mark.parametrize("task", MODELS)


@functools.cache
def dataset(task: str) -> data.Dataset:
  return data.load(f"digit_scene_{task}", num_train=16, num_test=8)


def config(task: str, **train_fields: Any) -> Any:
  made = base()
  made.dataset = f"digit_scene_{task}"
  made.model, options = MODELS[task]
  made.model_args.update(options)
  made.train.batch_size = 8
  made.train.update(train_fields)
  set_schemes(
    made,
    deep_lock=scheme("deep_lock"),
    hpnn=scheme("hpnn", units=8),
    feature=scheme("feature_permutation"),
    shf=scheme("shf", block_size=4),
  )
  return made


def checked(made: Any, task: str) -> None:
  model = models.from_config(made, dataset(task))
  locks = build_all(made.schemes, model)
  check.check_config(made, dataset(task), model, locks)


@pytest.mark.parametrize("patch", [1, 2])
def test_a_unet_answers_for_each_pixel(patch: int) -> None:
  model = models.create("unet", 5, (0.5,), (0.2,), width=2, patch=patch)
  x = jax.ShapeDtypeStruct((2, 32, 16, 1), jnp.float32)
  variables = jax.eval_shape(model.init, jax.random.key(0), x)
  logits = jax.eval_shape(model.apply, variables, x)
  assert logits.shape == (2, 32, 16, 5) and logits.dtype == jnp.float32
  assert not [n for n in variables["params"] if n.startswith("Conv")]
  odd = jax.ShapeDtypeStruct((2, 20, 20, 1), jnp.float32)
  with pytest.raises(ValueError, match="unet: depth=3.*divides, got 20 x 20"):
    jax.eval_shape(model.init, jax.random.key(0), odd)


def test_patches_are_put_back_where_they_were() -> None:
  from experiments.models import unet

  x = jnp.arange(2 * 8 * 4 * 3).reshape(2, 8, 4, 3)
  patches = unet._patches(x, 2)
  assert patches.shape == (2, 4, 2, 12)
  np.testing.assert_array_equal(unet._pixels(patches, 2), x)
  assert set(np.asarray(patches[0, 0, 0]) // 3 % 32) == {0, 1, 4, 5}


def test_a_detector_answers_for_each_cell() -> None:
  model = models.create("detector", 5, (0.5,), (0.2,), branch=4)
  x = jax.ShapeDtypeStruct((2, 32, 16, 1), jnp.float32)
  variables = jax.eval_shape(model.init, jax.random.key(0), x)
  grid = jax.eval_shape(model.apply, variables, x)
  assert grid.logits.shape == (2, 8, 4, 5) and grid.sides.shape == (2, 8, 4, 4)
  assert grid.stride == 4


@pytest.mark.parametrize(
  "task", ["masks", pytest.param("boxes", marks=pytest.mark.slow)]
)
def test_steps_lower_the_loss_of_the_task(task: str) -> None:
  made = config(task, learning_rate=1e-2, schedule="constant").train
  model = models.from_config(config(task), dataset(task))
  # Optax needs the standard promotion.
  with jax.numpy_dtype_promotion("standard"):
    optimizer = make_optimizer(made, 20)
    x = jax.ShapeDtypeStruct((8, 32, 32, 1), jnp.float32)
    variables = trees.fresh(model, x)
    state = State(jnp.int32(0), variables, optimizer.init(variables["params"]))
    step = make_step(made, model, keyjax.identity(), optimizer, task=task)
    run = parallel.data_parallel(step, "pmap", jax.devices()[:1])
    state = jax.device_get(state)
    batch = data.batches(dataset(task), 8, seed=0)[0]
    losses = []
    for _ in range(6):
      state, metrics = run(state, (), batch)
      # No accuracy: it is not the task's metric.
      assert list(metrics) == ["loss"]
      losses.append(float(metrics["loss"]))
  assert losses[-1] < 0.95 * losses[0]


@each_task
def test_a_right_config_passes(task: str) -> None:
  checked(config(task), task)


@each_task
@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("pad", 2),
    ("flip", True),
    ("cutout", 4),
    ("mixup", 0.2),
    ("label_smoothing", 0.1),
  ],
)
def test_augmentation_that_breaks_labels(
  task: str, field: str, value: Any
) -> None:
  message = f"train.{field} is for images with one class each.*task is {task}"
  with pytest.raises(ValueError, match=message):
    checked(config(task, **{field: value}), task)


def test_defenses_are_for_classes() -> None:
  made = config("masks")
  made.train.defense.name = "pgd"
  with pytest.raises(ValueError, match="train.defense is for .*task is masks"):
    checked(made, "masks")


@pytest.mark.parametrize(
  ("model", "name", "message"),
  [
    ("cnn", "digit_scene_masks", "images with masks: choose from unet"),
    ("unet", "digit_scene_boxes", "images with boxes: choose from detector"),
    ("unet", "digits", "which has images: choose from cnn, .*vgg"),
    ("gpt_micro", "digit_scene_boxes", "choose from detector"),
  ],
)
def test_models_for_another_task(model: str, name: str, message: str) -> None:
  made = base()
  made.model, made.dataset = model, name
  found = data.load(name, num_train=2, num_test=2)
  with pytest.raises(
    ValueError, match=f"model={model} does not fit.*{message}"
  ):
    models.from_config(made, found)


def test_a_model_of_an_unknown_task() -> None:
  from experiments.models.registry import register

  with pytest.raises(ValueError, match="unknown task 'mask'"):
    register("another", models.UNet, task="mask")


@pytest.mark.slow
@pytest.mark.parametrize(
  ("task", "epochs", "least"), [("masks", 24.0, 0.5), ("boxes", 20.0, 0.5)]
)
def test_models_learn_their_task(
  task: str, epochs: float, least: float, tmp_path: pathlib.Path
) -> None:
  """Figures of the real scenes are in docs/tasks.md; these take minutes."""
  found = data.load(f"digit_scene_{task}", num_train=1000, num_test=100)
  made = base()
  made.model = MODELS[task][0]
  made.train.update(batch_size=16, epochs=epochs, learning_rate=4e-3)
  model = models.from_config(made, found)
  with jax.numpy_dtype_promotion("standard"):  # Optax counts in int32.
    variables = train.train(
      made.train,
      dataset=found,
      model=model,
      scheme=keyjax.identity(),
      key=(),
      folder=tmp_path,
    )
    outputs = jax.jit(model.apply)(variables, data.to_float(found.test_images))
  judge = tasks.get(task)
  statistics = judge.statistics(outputs, jnp.asarray(found.test_labels))
  assert judge.value(jax.device_get(statistics)) > least
