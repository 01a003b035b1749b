"""U-Net: logits of each pixel."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.base import Classifier, batch_norm
from experiments.models.registry import register


class UNet(Classifier):
  """U-Net: a path down, a path up, and the features of each level handed over.

  With padding and batch normalisation, as is usual now. Each level of the path
  up doubles the image by a transposed convolution.

  References:
    Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical
    Image Segmentation", MICCAI 2015, arXiv:1505.04597.

  Attributes:
    width: Channels of the first level, 64 as published; each level doubles
      them.
    depth: Number of times that the image is halved, 4 as published.
    patch: Side of the patches that the first level sees as one pixel, 1 as
      published; the head returns the logits of each of their pixels.
  """

  width: int = 8
  depth: int = 3
  patch: int = 1

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Return the logits of each pixel, float32[b, h, w, num_classes].

    Raises:
      ValueError: If the image cannot be halved `depth` times.
    """
    whole = self.patch * 2**self.depth
    if any(side % whole for side in x.shape[1:3]):
      raise ValueError(
        f"unet: depth={self.depth} and patch={self.patch} need images whose "
        f"sides {whole} divides, got {x.shape[1]} x {x.shape[2]}"
      )
    x = _patches(self.normalise(x), self.patch)
    handed = []
    for level in range(self.depth):
      x = self._block(x, level, f"down_{level}", train)
      handed.append(x)
      # [b, h, w, c] -> [b, h / 2, w / 2, c]
      x = nn.max_pool(x, (2, 2), strides=(2, 2))
    x = self._block(x, self.depth, "bottom", train)
    for level in reversed(range(self.depth)):
      up = nn.ConvTranspose(
        self.width * 2**level,
        (2, 2),
        strides=(2, 2),
        dtype=self.dtype,
        name=f"up_{level}_scale",
      )
      # [b, h, w, c] -> [b, 2 h, 2 w, c / 2], and again c with what is handed
      x = jnp.concatenate([handed[level], up(x)], -1)
      x = self._block(x, level, f"up_{level}", train)
    features = self.num_classes * self.patch**2
    head = nn.Conv(features, (1, 1), dtype=self.dtype, name="head")
    return _pixels(head(x), self.patch).astype(jnp.float32)

  def _block(
    self, x: jax.Array, level: int, name: str, train: bool
  ) -> jax.Array:
    """Apply two convolutions of 3 x 3."""
    for i in range(2):
      conv = nn.Conv(
        self.width * 2**level,
        (3, 3),
        use_bias=False,
        dtype=self.dtype,
        name=f"{name}_conv_{i}",
      )
      x = nn.relu(batch_norm(conv(x), train, self.dtype, f"{name}_norm_{i}"))
    return x


def _patches(x: jax.Array, side: int) -> jax.Array:
  """Return the pixels of each patch as channels."""
  b, h, w, c = x.shape
  # [b, h, w, c] -> [b, h / s, s, w / s, s, c] -> [b, h / s, w / s, s * s * c]
  x = x.reshape(b, h // side, side, w // side, side, c)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // side, w // side, -1)


def _pixels(x: jax.Array, side: int) -> jax.Array:
  """Undo `_patches`."""
  b, h, w, c = x.shape
  # [b, h, w, s * s * c] -> [b, h, w, s, s, c] -> [b, h, s, w, s, c]
  x = x.reshape(b, h, w, side, side, -1).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(b, h * side, w * side, c // side**2)


register("unet", UNet, task="masks")
