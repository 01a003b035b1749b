"""A detector of one stage, without anchors."""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.base import Classifier, batch_norm
from experiments.models.registry import register
from keyjax.tasks.boxes import Grid

_PRIOR = 0.01  # Of every class in every cell, before training.


class Detector(Classifier):
  """Strided convolutions, and two branches on the last grid, as FCOS has.

  References:
    Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", ICCV
    2019, arXiv:1904.01355. One level of the pyramid, and no centre-ness: the
    cells near the centre of an object are the ones to find it.

  Attributes:
    features: Channels of each level; every level but the first halves the
      image.
    convs: Convolutions of each level.
    branch: Channels of each branch.
  """

  features: Sequence[int] = (8, 16, 32)
  convs: Sequence[int] = (1, 2, 4)
  branch: int = 32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> Grid:
    """Return logits and sides of each cell."""
    x = self.normalise(x)
    pairs = zip(self.features, self.convs, strict=True)
    for level, (features, count) in enumerate(pairs):
      for i in range(count):
        stride = 2 if level > 0 and i == 0 else 1
        name = f"level_{level}_conv_{i}"
        # The first of a level: [b, h, w, c] -> [b, h / 2, w / 2, features]
        x = self._conv(x, features, stride, name, train)
    return self._branches(x, 2 ** (len(self.features) - 1), train)

  def _branches(self, x: jax.Array, stride: int, train: bool) -> Grid:
    classes = self._conv(x, self.branch, 1, "classes_conv", train)
    sides = self._conv(x, self.branch, 1, "sides_conv", train)
    # So that the many empty cells do not rule the first steps: Lin et al.,
    # "Focal Loss for Dense Object Detection", section 4.1.
    prior = -math.log((1 - _PRIOR) / _PRIOR)
    logits = nn.Conv(
      self.num_classes,
      (1, 1),
      bias_init=nn.initializers.constant(prior),
      dtype=self.dtype,
      name="head_classes",
    )(classes)
    sides = nn.Conv(4, (1, 1), dtype=self.dtype, name="head_sides")(sides)
    # Positive, and one cell before training; a far cell cannot overflow.
    sides = stride * jnp.exp(jnp.clip(sides.astype(jnp.float32), -6, 6))
    return Grid(logits.astype(jnp.float32), sides, stride)

  def _conv(
    self, x: jax.Array, features: int, stride: int, name: str, train: bool
  ) -> jax.Array:
    conv = nn.Conv(
      features,
      (3, 3),
      strides=stride,
      padding=1,
      use_bias=False,
      dtype=self.dtype,
      name=name,
    )
    return nn.relu(
      batch_norm(conv(x), train, self.dtype, name.replace("conv", "norm"))
    )


register("detector", Detector, task="boxes")
