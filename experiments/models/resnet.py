"""Residual networks."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.base import Classifier, Dtype, batch_norm
from experiments.models.layout import Layout, register_layout
from experiments.models.registry import register

RESNET_BLOCKS = {
  18: (2, 2, 2, 2),
  50: (3, 4, 6, 3),
  101: (3, 4, 23, 3),
}


class Sum(nn.Module):
  """Sum at the end of a residual block: a module, so that it has a path."""

  def __call__(self, branch: jax.Array, shortcut: jax.Array) -> jax.Array:
    """Return the sum of two arrays of one shape."""
    return branch + shortcut


class Block(nn.Module):
  """A residual block: two 3 x 3 convolutions, or a bottleneck.

  Attributes:
    features: Channels of the convolutions; a bottleneck returns 4 times as
      many.
    stride: Stride of the first 3 x 3 convolution, and of the shortcut.
    bottleneck: Whether the block is 1 x 1, 3 x 3, 1 x 1.
    dtype: Type of the computation.
  """

  features: int
  stride: int = 1
  bottleneck: bool = False
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Return `float[b, h / stride, w / stride, features (x 4)]`."""
    width = self.features
    stride = self.stride
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
    depth: 18 (two convolutions a block), 50 or 101 (bottlenecks).
    width: Channels of the first stage, 64 as published.
    stem: `cifar` (3 x 3, stride 1) or `imagenet` (7 x 7, stride 2, and a
      max-pool).
    remat: Whether the backward pass computes each block again.
  """

  depth: int = 18
  width: int = 64
  stem: str = "cifar"
  remat: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Return the logits of images in [0, 1]."""
    if self.stem not in ("cifar", "imagenet"):
      raise ValueError(f"Expected stem={self.stem!r} as cifar or imagenet.")
    x = self.normalise(x)
    imagenet = self.stem == "imagenet"
    kernel, stride = (7, 2) if imagenet else (3, 1)
    x = _conv(self.width, kernel, stride, self.dtype, name="conv_stem")(x)
    # [b, h, w, 3] -> [b, h, w, width], or [b, h / 2, w / 2, width]
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
      # After each stage but the first, h and w are halved, features doubled.
    return self.classify(jnp.mean(x, axis=(1, 2)))  # [b, h, w, c] -> [b, c]


def _conv(
  features: int, kernel: int, stride: int, dtype: Dtype, name: str
) -> nn.Conv:
  """Return a convolution without bias: a normalisation follows it."""
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


register("resnet18", ResNet, fixed={"depth": 18})
for _depth in (50, 101):
  register(
    f"resnet{_depth}",
    ResNet,
    fixed={"depth": _depth},
    defaults={"stem": "imagenet"},
  )
# torchvision's and timm's ResNets, with the `imagenet` stem.
register_layout(
  ResNet,
  Layout(
    modules={
      r"conv_stem": "conv1",
      r"norm_stem": "bn1",
      r"stage_(\d)_block_(\d+)/conv_(\d)": "layer{+1}.{2}.conv{+3}",
      r"stage_(\d)_block_(\d+)/norm_(\d)": "layer{+1}.{2}.bn{+3}",
      r"stage_(\d)_block_(\d+)/conv_shortcut": "layer{+1}.{2}.downsample.0",
      r"stage_(\d)_block_(\d+)/norm_shortcut": "layer{+1}.{2}.downsample.1",
      r"head": "fc",
    },
    ignored=r".*\.num_batches_tracked",
  ),
)
