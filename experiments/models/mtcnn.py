"""The three networks of the MTCNN face detector.

Each takes `float32[b, h, w, 3]` in [-1, 1] and returns `face`, logits of "no
face" and "face", and `box`, the distances of a face's edges from those of the
window, in units of its side; the last network also returns `points`, five
landmarks, x first. The first one is a convolution over an image of any size.
`experiments.published.cascade` finds the faces of an image with them.
"""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.base import Dtype
from experiments.models.layout import LEAVES, Layout, register_layout

_LEAVES = LEAVES | {"negative_slope": "weight"}


class PReLU(nn.Module):
  """A ReLU whose negative side has a learned slope, one for each channel."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Return x, its negative values times the slope of their channel."""
    init = nn.initializers.constant(0.25)
    slope = self.param("negative_slope", init, (x.shape[-1],))
    # [channels] -> [1, ..., channels]
    slope = slope.reshape((1,) * (x.ndim - 1) + (-1,)).astype(x.dtype)
    return jnp.where(x >= 0, x, slope * x)


class CascadeNet(nn.Module):
  """One network of the cascade.

  References:
    Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded
    Convolutional Networks", IEEE Signal Processing Letters, 2016.

  Attributes:
    features: Channels of each convolution.
    kernels: Side of each kernel.
    pools: Side of the max-pool after each convolution, with stride 2; 0 for
      none.
    hidden: Units of the dense layer; 0 for a network that is all convolution.
    outputs: Numbers that each output has.
    dtype: Type of the computation; outputs stay `float32`.
  """

  features: Sequence[int]
  kernels: Sequence[int]
  pools: Sequence[int]
  hidden: int
  outputs: Mapping[str, int]
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> dict[str, jax.Array]:
    """Return the outputs by name, [b, n], or [b, h, w, n] without dense."""
    del train  # Unused: training is no different here.
    x = x.astype(self.dtype)
    plan = zip(self.features, self.kernels, self.pools, strict=True)
    for i, (features, side, pool) in enumerate(plan):
      x = self._conv(features, side, f"conv_{i}")(x)
      x = PReLU(name=f"prelu_{i}")(x)
      x = _pool(x, pool) if pool else x
    if self.hidden:
      # [b, h, w, c] -> [b, w * h * c]: the public weights put w first.
      x = x.swapaxes(1, 2).reshape(len(x), -1)
      x = PReLU(name="prelu_dense")(self._dense(self.hidden, "dense")(x))
    found = {}
    for name, size in self.outputs.items():
      layer: nn.Module
      if self.hidden:
        layer = self._dense(size, name)
      else:
        layer = self._conv(size, 1, name)
      found[name] = layer(x).astype(jnp.float32)
    return found

  def _conv(self, features: int, side: int, name: str) -> nn.Conv:
    return nn.Conv(
      features, (side, side), padding="VALID", dtype=self.dtype, name=name
    )

  def _dense(self, features: int, name: str) -> nn.Dense:
    return nn.Dense(features, dtype=self.dtype, name=name)


class ProposalNet(CascadeNet):
  """Finds candidates: windows of 12 pixels, at a stride of 2."""

  features: Sequence[int] = (10, 16, 32)
  kernels: Sequence[int] = (3, 3, 3)
  pools: Sequence[int] = (2, 0, 0)
  hidden: int = 0
  outputs: Mapping[str, int] = nn.FrozenDict({"face": 2, "box": 4})


class RefineNet(CascadeNet):
  """Refuses candidates, windows of 24 pixels."""

  features: Sequence[int] = (28, 48, 64)
  kernels: Sequence[int] = (3, 3, 2)
  pools: Sequence[int] = (3, 3, 0)
  hidden: int = 128
  outputs: Mapping[str, int] = nn.FrozenDict({"face": 2, "box": 4})


class OutputNet(CascadeNet):
  """Decides, and finds landmarks, in windows of 48 pixels."""

  features: Sequence[int] = (32, 64, 64, 128)
  kernels: Sequence[int] = (3, 3, 3, 2)
  pools: Sequence[int] = (3, 3, 2, 0)
  hidden: int = 256
  outputs: Mapping[str, int] = nn.FrozenDict(
    {"face": 2, "box": 4, "points": 10}
  )


def _pool(x: jax.Array, side: int) -> jax.Array:
  """Return the maxima of windows at a stride of 2; the last may stick out."""
  # The number of steps is rounded up.
  ends = [-(n - side) % 2 for n in x.shape[1:3]]
  return nn.max_pool(
    x, (side, side), strides=(2, 2), padding=[(0, end) for end in ends]
  )


def _layout(convolutions: int, hidden: bool) -> Layout:
  """Return facenet-pytorch's names, which count layers from 1."""
  last = convolutions + hidden
  kind = "dense" if hidden else "conv"
  # A network without a dense layer counts its outputs as a layer of their own.
  outputs = {"face": 1, "box": 2, "points": 3}
  return Layout(
    modules={
      r"conv_(\d)": "conv{+1}",
      r"prelu_(\d)": "prelu{+1}",
      r"dense": f"dense{last}",
      r"prelu_dense": f"prelu{last}",
      **{name: f"{kind}{last + 1}_{n}" for name, n in outputs.items()},
    },
    leaves=_LEAVES,
  )


register_layout(ProposalNet, _layout(3, hidden=False))
register_layout(RefineNet, _layout(3, hidden=True))
register_layout(OutputNet, _layout(4, hidden=True))
