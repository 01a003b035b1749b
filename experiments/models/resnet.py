"""Residual networks."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.base import Classifier, Dtype, batch_norm

RESNET_BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


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
      y = batch_norm(conv(y), train, self.dtype, f"norm_{i}")
      if i < len(plan) - 1:
        y = nn.relu(y)
    if x.shape != y.shape:
      conv = _conv(y.shape[-1], 1, stride, self.dtype, name="conv_shortcut")
      x = batch_norm(conv(x), train, self.dtype, "norm_shortcut")
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
    remat: whether the backward pass computes each block again.
  """

  depth: int = 18
  width: int = 64
  stem: str = "cifar"
  remat: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Returns the logits of images in [0, 1]."""
    if self.stem not in ("cifar", "imagenet"):
      raise ValueError(f"Expected stem={self.stem!r} as cifar or imagenet.")
    x = self.normalise(x)
    imagenet = self.stem == "imagenet"
    kernel, stride = (7, 2) if imagenet else (3, 1)
    x = _conv(self.width, kernel, stride, self.dtype, name="conv_stem")(x)
    x = nn.relu(batch_norm(x, train, self.dtype, "norm_stem"))
    if imagenet:
      x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=[(1, 1), (1, 1)])
    # 2 is `train`, after the module itself and x.
    block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
    for stage, count in enumerate(RESNET_BLOCKS[self.depth]):
      for i in range(count):
        x = block(
          features=self.width * 2**stage,
          stride=2 if i == 0 and stage > 0 else 1,
          bottleneck=self.depth >= 50,
          dtype=self.dtype,
          name=f"stage_{stage}_block_{i}",
        )(x, train)
    return self.classify(jnp.mean(x, axis=(1, 2)))


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
