"""Small networks, and VGG."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.base import Classifier, batch_norm

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
    for entry in VGG_PLANS[self.depth].split():
      if entry == "M":
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
        continue
      features = int(entry) * self.width // 64
      x = nn.Conv(features, (3, 3), dtype=self.dtype, name=f"conv_{index}")(x)
      x = nn.relu(batch_norm(x, train, self.dtype, f"norm_{index}"))
      index += 1
    # 1 x 1 for images of 32 x 32: the mean changes nothing there.
    return self.classify(jnp.mean(x, axis=(1, 2)))
