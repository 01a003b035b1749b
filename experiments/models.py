"""The models: linen modules whose layers a lock can find by path.

Every model takes `float32[b, h, w, c]` pixels in [0, 1] and normalises them
itself, so that what a key shuffles are raw pixels. The output of every `Conv`
and `Dense` is a pre-activation, batch normalisation and activations come
after it, the last `Dense` is called `head`, and the sum of a residual block is
a module of its own (`sum`), where a lock can be placed too.

  >>> model = create("cnn", num_classes=10, mean=(0.5,), std=(0.25,))
  >>> x = jnp.zeros((2, 28, 28, 1))
  >>> variables = model.init(jax.random.key(0), x)
  >>> sorted(variables["params"])
  ['conv_0', 'conv_1', 'dense', 'head']
  >>> model.apply(variables, x).shape
  (2, 10)
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Dtype = Any

# Output channels of 3x3 convolutions; "M" halves the image. Simonyan and
# Zisserman, "Very Deep Convolutional Networks", arXiv:1409.1556, table 1.
_VGG = {
  11: "64 M 128 M 256 256 M 512 512 M 512 512 M",
  13: "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
  16: "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
  19: "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}
_RESNET = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


class Classifier(nn.Module):
  """What all models share.

  Attributes:
    num_classes: how many logits.
    mean: per channel, subtracted from pixels in [0, 1].
    std: per channel, divides what is left.
    dtype: of the computation; parameters and logits stay `float32`.
  """

  num_classes: int
  mean: Sequence[float]
  std: Sequence[float]
  dtype: Dtype = jnp.float32

  def normalise(self, x: jax.Array) -> jax.Array:
    """Returns `(x - mean) / std`, computed in `float32`, as `dtype`."""
    if x.shape[-1] != len(self.mean):
      raise ValueError(
        f"Expected images of {len(self.mean)} channels, as mean has; got "
        f"{x.shape[-1]}."
      )
    if not jnp.issubdtype(x.dtype, jnp.floating):
      raise ValueError(
        f"Expected float pixels in [0, 1], got {x.dtype}: use data.to_float."
      )
    shape = (1,) * (x.ndim - 1) + (-1,)
    mean = jnp.asarray(self.mean, jnp.float32).reshape(shape)
    std = jnp.asarray(self.std, jnp.float32).reshape(shape)
    return ((x.astype(jnp.float32) - mean) / std).astype(self.dtype)

  def classify(self, x: jax.Array) -> jax.Array:
    """Returns the logits, `float32`, of features `[b, n]`."""
    head = nn.Dense(self.num_classes, dtype=self.dtype, name="head")
    return head(x).astype(jnp.float32)


class MLP(Classifier):
  """Fully connected layers.

  Attributes:
    hidden: units of each hidden layer.
  """

  hidden: Sequence[int] = (256, 256)

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Returns the logits of images in [0, 1]."""
    del train  # Unused: nothing here differs in training.
    x = self.normalise(x)
    x = x.reshape(len(x), -1)
    for i, units in enumerate(self.hidden):
      x = nn.relu(nn.Dense(units, dtype=self.dtype, name=f"dense_{i}")(x))
    return self.classify(x)


class CNN(Classifier):
  """A small strided CNN: convolutions that halve the image, then two layers.

  Attributes:
    features: output channels of each convolution.
    kernel: side of the convolutions' kernels.
    units: of the hidden `Dense` layer.
  """

  features: Sequence[int] = (16, 32)
  kernel: int = 5
  units: int = 128

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Returns the logits of images in [0, 1]."""
    del train  # Unused: nothing here differs in training.
    x = self.normalise(x)
    side = (self.kernel, self.kernel)
    for i, features in enumerate(self.features):
      name = f"conv_{i}"
      x = nn.Conv(features, side, strides=2, dtype=self.dtype, name=name)(x)
      x = nn.relu(x)
    x = x.reshape(len(x), -1)
    x = nn.relu(nn.Dense(self.units, dtype=self.dtype, name="dense")(x))
    return self.classify(x)


class VGG(Classifier):
  """VGG with batch normalisation and one `Dense`, as is usual for CIFAR-10.

  References:
    Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale
    Image Recognition", arXiv:1409.1556, 2014.

  Attributes:
    depth: 11, 13, 16 or 19.
    width: channels of the first stage, 64 as published.
  """

  depth: int = 19
  width: int = 64

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Returns the logits of images in [0, 1]; 32 x 32 or larger."""
    x = self.normalise(x)
    index = 0
    for entry in _VGG[self.depth].split():
      if entry == "M":
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
        continue
      features = int(entry) * self.width // 64
      x = nn.Conv(features, (3, 3), dtype=self.dtype, name=f"conv_{index}")(x)
      x = nn.relu(_norm(x, train, self.dtype, f"norm_{index}"))
      index += 1
    # 1 x 1 for images of 32 x 32: the mean changes nothing there.
    return self.classify(jnp.mean(x, axis=(1, 2)))


class Sum(nn.Module):
  """The sum that ends a residual block: a module, so that it has a path."""

  def __call__(self, branch: jax.Array, shortcut: jax.Array) -> jax.Array:
    """Returns the sum of two arrays of one shape."""
    return branch + shortcut


class Block(nn.Module):
  """A residual block: two 3 x 3 convolutions, or a bottleneck.

  Attributes:
    features: channels of the convolutions; a bottleneck puts out 4 times as
      many.
    stride: of the first 3 x 3 convolution, and of the shortcut.
    bottleneck: whether the block is 1 x 1, 3 x 3, 1 x 1.
    dtype: of the computation.
  """

  features: int
  stride: int = 1
  bottleneck: bool = False
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Returns `float[b, h / stride, w / stride, features (x 4)]`."""
    width, stride = self.features, self.stride
    # (features, kernel, stride) of each convolution in the branch.
    plan = [(width, 3, stride), (width, 3, 1)]
    if self.bottleneck:
      plan = [(width, 1, 1), (width, 3, stride), (4 * width, 1, 1)]
    y = x
    for i, (features, kernel, step) in enumerate(plan):
      conv = _conv(features, kernel, step, self.dtype, name=f"conv_{i}")
      y = _norm(conv(y), train, self.dtype, f"norm_{i}")
      if i < len(plan) - 1:
        y = nn.relu(y)
    if x.shape != y.shape:
      conv = _conv(y.shape[-1], 1, stride, self.dtype, name="conv_shortcut")
      x = _norm(conv(x), train, self.dtype, "norm_shortcut")
    return nn.relu(Sum(name="sum")(y, x))


class ResNet(Classifier):
  """A residual network.

  References:
    He et al., "Deep Residual Learning for Image Recognition",
    arXiv:1512.03385, 2015. Bottlenecks stride in their 3 x 3 convolution, as
    later code does.

  Attributes:
    depth: 18 (two convolutions a block) or 50 (bottlenecks).
    width: channels of the first stage, 64 as published.
    stem: `cifar` (3 x 3, stride 1) or `imagenet` (7 x 7, stride 2, and a
      max-pool).
  """

  depth: int = 18
  width: int = 64
  stem: str = "cifar"

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Returns the logits of images in [0, 1]."""
    if self.stem not in ("cifar", "imagenet"):
      raise ValueError(f"Expected stem={self.stem!r} as cifar or imagenet.")
    x = self.normalise(x)
    imagenet = self.stem == "imagenet"
    kernel, stride = (7, 2) if imagenet else (3, 1)
    x = _conv(self.width, kernel, stride, self.dtype, name="conv_stem")(x)
    x = nn.relu(_norm(x, train, self.dtype, "norm_stem"))
    if imagenet:
      x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=[(1, 1), (1, 1)])
    for stage, count in enumerate(_RESNET[self.depth]):
      for i in range(count):
        x = Block(
          features=self.width * 2**stage,
          stride=2 if i == 0 and stage > 0 else 1,
          bottleneck=self.depth >= 50,
          dtype=self.dtype,
          name=f"stage_{stage}_block_{i}",
        )(x, train)
    return self.classify(jnp.mean(x, axis=(1, 2)))


def _norm(x: jax.Array, train: bool, dtype: Dtype, name: str) -> jax.Array:
  """Returns `x` after batch normalisation, computed in `float32`."""
  norm = nn.BatchNorm(
    use_running_average=not train, momentum=0.9, epsilon=1e-5, name=name
  )
  # Flax would widen x and narrow the result by itself, but not under strict
  # promotion.
  return norm(x.astype(jnp.float32)).astype(dtype)


def _conv(
  features: int, kernel: int, stride: int, dtype: Dtype, name: str
) -> nn.Conv:
  """Returns a convolution without bias: a normalisation follows it."""
  # Explicit, because "SAME" pads a strided convolution on one side only.
  pad = (kernel - 1) // 2
  return nn.Conv(
    features,
    (kernel, kernel),
    strides=stride,
    padding=pad,
    use_bias=False,
    kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
    dtype=dtype,
    name=name,
  )


_MODELS: dict[str, tuple[type[Classifier], dict[str, Any]]] = {
  "mlp": (MLP, {}),
  "cnn": (CNN, {}),
  **{f"vgg{depth}": (VGG, {"depth": depth}) for depth in _VGG},
  "resnet18": (ResNet, {"depth": 18}),
  "resnet50": (ResNet, {"depth": 50, "stem": "imagenet"}),
}
NAMES = tuple(_MODELS)


def create(
  name: str,
  num_classes: int,
  mean: Sequence[float],
  std: Sequence[float],
  **options: Any,
) -> Classifier:
  """Makes a model by name.

  Args:
    name: one of `NAMES`.
    num_classes: how many logits.
    mean: of pixels in [0, 1], per channel.
    std: of pixels in [0, 1], per channel.
    **options: further attributes of the model: `dtype` of every model, and
      what its class lists (`features`, `width`, ...).

  Returns:
    The module; `apply(variables, x, train)` takes `float32[b, h, w, c]` in
    [0, 1] and gives `float32[b, num_classes]`.

  Raises:
    ValueError: the name or an option is unknown, or mean and std do not fit.
  """
  if name not in _MODELS:
    raise ValueError(f"Unknown model {name!r}: choose from {', '.join(NAMES)}.")
  if not mean or len(mean) != len(std) or min(std) <= 0:
    raise ValueError(f"Expected a positive std={std} for each of mean={mean}.")
  module, fixed = _MODELS[name]
  taken = {"num_classes", "mean", "std", "depth", "parent", "name"}
  known = [f.name for f in dataclasses.fields(module) if f.name not in taken]
  unknown = sorted(set(options) - set(known))
  if unknown:
    raise ValueError(
      f"Unknown option {', '.join(unknown)} of model {name}: it has "
      f"{', '.join(known)}."
    )
  # Tuples, because a module must be hashable to be an argument of jit.
  options = {
    k: tuple(v) if isinstance(v, list) else v for k, v in options.items()
  }
  return module(
    num_classes=num_classes,
    mean=tuple(mean),
    std=tuple(std),
    **{**fixed, **options},
  )
