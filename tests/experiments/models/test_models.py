"""Sizes, names, normalisation and sums of the models."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import data, models
from tests.experiments.models.small import (
  MEAN,
  SMALL,
  STD,
  abstract,
  initialise,
)

# The blocks of a transformer and of a mixer are all alike: one is enough.
SHALLOW = [
  (name, {"depth": 1} if name.startswith(("vit", "mixer")) else {})
  for name in models.image_names()
]


def count(variables):
  leaves = jax.tree.leaves(variables["params"])
  return sum(math.prod(leaf.shape) for leaf in leaves)


@pytest.fixture(scope="module")
def images():
  rng = np.random.default_rng(0)
  return jnp.asarray(rng.random((4, 32, 32, 3), np.float32))


# ---------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
  ("name", "options", "parameters"),
  [
    # kuangliu/pytorch-cifar's, and torchvision's for 1,000 classes.
    ("resnet18", {}, 11_173_962),
    ("resnet50", {"stem": "cifar"}, 23_520_842),
    ("resnet50", {"size": 224, "num_classes": 1000}, 25_557_032),
    ("resnet101", {"size": 224, "num_classes": 1000}, 44_549_160),
    ("vgg11", {}, 9_231_114),
    ("vgg13", {}, 9_416_010),
    ("vgg16", {}, 14_728_266),
    ("vgg19", {}, 20_040_522),
    ("resnet18", {"width": 16}, 701_466),
    # timm's, for 224 x 224 and 1,000 classes.
    ("vit_ti", {"size": 224, "num_classes": 1000}, 5_717_416),
    ("vit_s", {"size": 224, "num_classes": 1000}, 22_050_664),
    ("vit_b", {"size": 224, "num_classes": 1000}, 86_567_656),
    ("mixer_s", {"size": 224, "num_classes": 1000}, 18_528_264),
    ("mixer_b", {"size": 224, "num_classes": 1000}, 59_880_472),
  ],
)
def test_parameter_count(name, options, parameters):
  if name.startswith("vgg"):
    # The convolutions of the common implementation have biases, as here.
    assert "bias" in abstract(name)[0]["params"]["conv_0"]
  assert count(abstract(name, **options)[0]) == parameters


@pytest.mark.parametrize(("name", "options"), SHALLOW)
@pytest.mark.parametrize("size", [32, 48])
def test_logits_are_float32_by_class_at_several_sizes(name, options, size):
  _, logits, _ = abstract(name, num_classes=43, size=size, **options)
  assert logits.shape == (2, 43) and logits.dtype == jnp.float32


@pytest.mark.parametrize(("name", "options"), SHALLOW)
def test_dtype_is_that_of_the_computation_only(name, options):
  variables, logits, _ = abstract(name, dtype="bfloat16", **options)
  assert logits.dtype == jnp.float32
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


def test_resnet_keeps_the_image_in_its_first_stage():
  """The CIFAR stem: 32 -> 32, 16, 8, 4; the ImageNet stem: 224 -> 56."""
  for options, sides in (
    ({"width": 4}, [32, 16, 8, 4]),
    ({"width": 4, "stem": "imagenet", "size": 224}, [56, 28, 14, 7]),
  ):
    variables, _, model = abstract("resnet18", **options)
    size = options.get("size", 32)
    _, state = jax.eval_shape(
      lambda v, x, model=model: model.apply(
        v, x, capture_intermediates=True, mutable=["intermediates"]
      ),
      variables,
      jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32),
    )
    for stage, side in enumerate(sides):
      block = state["intermediates"][f"stage_{stage}_block_1"]
      (out,) = block["__call__"]
      assert out.shape == (2, side, side, 4 * 2**stage)


@pytest.mark.parametrize(
  ("options", "convolutions", "shape"),
  [
    ({}, [3, 3], (2, 8, 8, 4)),
    ({"stride": 2}, [3, 3, 1], (2, 4, 4, 4)),
    ({"bottleneck": True}, [1, 3, 1, 1], (2, 8, 8, 16)),
    ({"bottleneck": True, "stride": 2}, [1, 3, 1, 1], (2, 4, 4, 16)),
  ],
)
def test_block_shapes_and_shortcut(options, convolutions, shape):
  """The last 1 x 1 is the shortcut, which exists where the shape changes."""
  block = models.Block(4, **options)
  x = jax.ShapeDtypeStruct((2, 8, 8, 4), jnp.float32)
  out, variables = jax.eval_shape(block.init_with_output, jax.random.key(0), x)
  assert out.shape == shape
  kernels = [
    variables["params"][name]["kernel"].shape[0]
    for name in ("conv_0", "conv_1", "conv_2", "conv_shortcut")
    if name in variables["params"]
  ]
  assert kernels == convolutions
  assert all("bias" not in variables["params"][f"conv_{i}"] for i in (0, 1))


# ---------------------------------------------------------------------- paths


def calls(name, **options):
  """Return (path, class) of every module call, in order."""
  variables, _, model = abstract(name, **options)
  seen = []

  def record(next_fun, args, kwargs, context):
    if context.method_name == "__call__":
      path = "/".join(context.module.path)
      seen.append((path, type(context.module).__name__))
    return next_fun(*args, **kwargs)

  def run(variables, x):
    with nn.intercept_methods(record):
      return model.apply(variables, x)

  x = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
  jax.eval_shape(run, variables, x)
  return seen


@pytest.mark.parametrize(("name", "options"), SHALLOW)
def test_the_last_layer_is_head(name, options):
  assert calls(name, **options)[-1] == ("head", "Dense")


def test_sums_can_be_locked_by_path():
  seen = calls("resnet18")
  sums = [path for path, kind in seen if kind == "Sum"]
  assert sums == [
    f"stage_{stage}_block_{i}/sum" for stage in range(4) for i in range(2)
  ]
  shortcuts = [path for path, _ in seen if path.endswith("conv_shortcut")]
  assert shortcuts == [
    f"stage_{stage}_block_0/conv_shortcut" for stage in (1, 2, 3)
  ]


def test_a_sum_is_followed_by_relu(images):
  """Negating a sum must change the logits: it is where a lock acts."""
  model = models.create("resnet18", 10, MEAN, STD, width=4)
  variables = initialise(model, images)

  def negate(next_fun, args, kwargs, context):
    out = next_fun(*args, **kwargs)
    locked = context.module.path == ("stage_3_block_1", "sum")
    return -out if locked else out

  def apply_locked(variables, images):
    with nn.intercept_methods(negate):
      return model.apply(variables, images)

  plain = jax.jit(model.apply)(variables, images)
  locked = jax.jit(apply_locked)(variables, images)
  assert float(jnp.abs(plain - locked).max()) > 1e-3


def test_vgg_convolutions_are_numbered():
  convs = [path for path, kind in calls("vgg19") if kind == "Conv"]
  assert convs == [f"conv_{i}" for i in range(16)]


# ------------------------------------------------------------------ behaviour


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet18"])
def test_pixels_are_normalised_inside(name, images):
  """A model with (mean, std) is the one with (0, 1) on normalised pixels."""
  inside = models.create(name, 10, MEAN, STD, **SMALL[name])
  outside = models.create(name, 10, (0,) * 3, (1,) * 3, **SMALL[name])
  variables = initialise(inside, images)
  normalised = (images - jnp.array([[[MEAN]]])) / jnp.array([[[STD]]])
  np.testing.assert_allclose(
    jax.jit(inside.apply)(variables, images),
    jax.jit(outside.apply)(variables, normalised),
    rtol=1e-4,
    atol=1e-5,
  )


@pytest.mark.parametrize("name", ["vgg11", "resnet18"])
def test_batch_statistics_move_in_training_only(name, images):
  model = models.create(name, 10, MEAN, STD, **SMALL[name])
  variables = initialise(model, images)

  @functools.partial(jax.jit, static_argnums=0)
  def statistics(train):
    _, state = model.apply(variables, images, train, mutable=["batch_stats"])
    return state["batch_stats"]

  trees = variables["batch_stats"], statistics(False), statistics(True)
  for old, kept, new in zip(*map(jax.tree.leaves, trees), strict=True):
    np.testing.assert_array_equal(old, kept)
    assert (np.array(old) != np.array(new)).any()


def test_in_evaluation_an_image_does_not_depend_on_its_batch(images):
  model = models.create("resnet18", 10, MEAN, STD, width=4)
  variables = initialise(model, images)
  apply = jax.jit(model.apply)
  other = images.at[1:].set(0)
  np.testing.assert_allclose(
    apply(variables, images)[:1], apply(variables, other)[:1], atol=1e-6
  )


def test_bfloat16_is_close_to_float32(images):
  out = {}
  for dtype in ("float32", "bfloat16"):
    model = models.create("resnet18", 10, MEAN, STD, width=4, dtype=dtype)
    variables = initialise(model, images)
    out[dtype] = jax.jit(model.apply)(variables, images)
  error = jnp.abs(out["float32"] - out["bfloat16"]).max()
  assert 0 < float(error) < 0.1 * float(jnp.abs(out["float32"]).max())


@pytest.mark.parametrize(
  "name",
  [
    pytest.param(x, marks=pytest.mark.slow if x == "vgg11" else ())
    for x in SMALL
  ],
)
def test_gradients_reach_every_parameter(name, images):
  model = models.create(name, 10, MEAN, STD, **SMALL[name])
  variables = initialise(model, images)

  def loss(params):
    logits, _ = model.apply(
      {**variables, "params": params}, images, True, mutable=["batch_stats"]
    )
    return optax.softmax_cross_entropy_with_integer_labels(
      logits, jnp.arange(4)
    ).mean()

  grads = jax.jit(jax.grad(loss))(variables["params"])
  for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
    assert (np.array(leaf) != 0).any(), path


@pytest.mark.slow
def test_cnn_learns_the_digits():
  digits = data.load("digits")
  model = models.create("cnn", 10, digits.mean, digits.std)
  batches = data.batches(digits, 32, seed=0)
  steps = 5 * data.steps_per_epoch(1437, 32)
  optimizer = optax.adam(optax.cosine_decay_schedule(4e-3, steps))
  params = initialise(model, jnp.zeros((1, 8, 8, 1)))
  state = optimizer.init(params)

  # 225 steps: optimised code saves more time than it costs.
  options = {"xla_backend_optimization_level": 3}

  @functools.partial(jax.jit, compiler_options=options)
  def update(params, state, batch):
    def loss(params):
      logits = model.apply(params, data.to_float(batch["image"]))
      return optax.softmax_cross_entropy_with_integer_labels(
        logits, batch["label"]
      ).mean()

    updates, state = optimizer.update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, updates), state

  # Optax's own arithmetic mixes floats and integers.
  with jax.numpy_dtype_promotion("standard"):
    for step in range(steps):
      params, state = update(params, state, batches[step])
  logits = model.apply(params, data.to_float(digits.test_images))
  accuracy = (np.argmax(logits, -1) == digits.test_labels).mean()
  assert accuracy > 0.93


# ------------------------------------------------------------------- bad input


@pytest.mark.parametrize("std", [(0.1, 0.1), (0.1, 0.0, 0.1), ()])
def test_statistics_that_do_not_fit_are_errors(std):
  with pytest.raises(ValueError, match="positive std"):
    models.create("cnn", 10, MEAN, std)


def test_bad_images_and_stem_are_errors(images):
  model = models.create("cnn", 10, MEAN, STD)
  with pytest.raises(ValueError, match="3 channels.*got 1"):
    model.init(jax.random.key(0), images[..., :1])
  with pytest.raises(ValueError, match="uint8.*to_float"):
    model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3), jnp.uint8))
  model = models.create("resnet18", 10, MEAN, STD, stem="none")
  with pytest.raises(ValueError, match="'none'.*cifar.*imagenet"):
    initialise(model, images)


def test_models_are_hashable_with_any_config_values():
  model = models.create("mlp", 10, [0.5], [0.2], hidden=[4, 4])
  assert hash(model) == hash(
    models.create("mlp", 10, (0.5,), (0.2,), hidden=(4, 4))
  )
