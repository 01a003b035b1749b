"""Small networks, and VGG."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.base import Classifier, activate, batch_norm, drop
from experiments.models.experts import Experts, Present, present_experts
from experiments.models.registry import register

# Output channels of 3x3 convolutions; "M" halves the image. Simonyan and
# Zisserman, "Very Deep Convolutional Networks", arXiv:1409.1556, table 1.
VGG_PLANS = {
  11: "64 M 128 M 256 256 M 512 512 M 512 512 M",
  13: "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
  16: "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
  19: "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}


class MLP(Classifier):
  """Fully connected layers.

  Attributes:
    hidden: Units of each hidden layer.
    activation: Name of the nonlinearity in `flax.linen`.
    dropout: Share of the units of each hidden layer that a step leaves out.
  """

  hidden: Sequence[int] = (256, 256)
  activation: str = "relu"
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Return the logits of images in [0, 1]."""
    x = self.normalise(x)
    x = x.reshape(len(x), -1)  # [b, h, w, c] -> [b, h * w * c]
    for i, units in enumerate(self.hidden):
      x = nn.Dense(units, dtype=self.dtype, name=f"dense_{i}")(x)
      x = drop(activate(self.activation, x), self.dropout, train)
    return self.classify(x)


class CNN(Classifier):
  """A small strided CNN: convolutions that halve the image, then two layers.

  Attributes:
    features: Output channels of each convolution.
    kernel: Side of the convolutions' kernels.
    units: Units of the hidden `Dense` layer.
    activation: Name of the nonlinearity in `flax.linen`.
    dropout: Share of the hidden units that a step leaves out.
    experts: Tiers whose experts add to the hidden layer's output; see
      `experiments.models.experts`.
  """

  features: Sequence[int] = (16, 32)
  kernel: int = 5
  units: int = 128
  activation: str = "relu"
  dropout: float = 0.0
  experts: Sequence[str] = ()

  @nn.compact
  def __call__(
    self, x: jax.Array, train: bool = False, present: Present = None
  ) -> jax.Array:
    """Return the logits of images in [0, 1]."""
    x = self.normalise(x)
    side = (self.kernel, self.kernel)
    for i, features in enumerate(self.features):
      name = f"conv_{i}"
      x = nn.Conv(features, side, strides=2, dtype=self.dtype, name=name)(x)
      # [b, h, w, c] -> [b, h / 2, w / 2, features]
      x = activate(self.activation, x)
    x = x.reshape(len(x), -1)  # [b, h', w', features] -> [b, n]
    y = nn.Dense(self.units, dtype=self.dtype, name="dense")(x)
    y = activate(self.activation, y)
    if experts := present_experts(self.experts, present):
      y = y + Experts(
        experts, self.units, self.units, self.dtype, name="experts"
      )(x)
    return self.classify(drop(y, self.dropout, train))


class VGG(Classifier):
  """VGG with batch normalisation and one `Dense`, as is usual for CIFAR-10.

  References:
    Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale
    Image Recognition", arXiv:1409.1556, 2014.

  Attributes:
    depth: Number of layers with weights: 11, 13, 16 or 19.
    width: Channels of the first stage, 64 as published.
  """

  depth: int = 19
  width: int = 64

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Return the logits of images in [0, 1]; 32 x 32 or larger."""
    x = self.normalise(x)
    index = 0
    for entry in VGG_PLANS[self.depth].split():
      if entry == "M":
        x = nn.max_pool(x, (2, 2), strides=(2, 2))  # Halves h and w.
        continue
      features = int(entry) * self.width // 64
      x = nn.Conv(features, (3, 3), dtype=self.dtype, name=f"conv_{index}")(x)
      x = nn.relu(batch_norm(x, train, self.dtype, f"norm_{index}"))
      index += 1
    # [b, h / 32, w / 32, c] -> [b, c]; images of 32 x 32 are 1 x 1 here.
    return self.classify(jnp.mean(x, axis=(1, 2)))


register("mlp", MLP)
register("cnn", CNN)
for _depth in VGG_PLANS:
  register(f"vgg{_depth}", VGG, fixed={"depth": _depth})
