"""Vision transformers."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.base import Classifier, Dtype
from experiments.models.transformer import TransformerBlock, layer_norm

# Features, blocks and heads: Touvron et al., arXiv:2012.12877, table 1, for Ti
# and S; Dosovitskiy et al., table 1, for B.
VIT_SIZES = {
  "ti": {"features": 192, "depth": 12, "heads": 3},
  "s": {"features": 384, "depth": 12, "heads": 6},
  "b": {"features": 768, "depth": 12, "heads": 12},
  "micro": {"features": 32, "depth": 2, "heads": 2, "patch": 4},
}


def patches(x: jax.Array, features: int, patch: int, dtype: Dtype) -> jax.Array:
  """Returns the embedded patches of images, `[b, patches, features]`.

  Call it in a module's compact method: it makes `patch_embedding`.

  Raises:
    ValueError: the patches do not divide the image.
  """
  height, width = x.shape[1:3]
  if height % patch or width % patch:
    raise ValueError(
      f"Patches of {patch} do not divide images of {height} x {width}."
    )
  embed = nn.Conv(
    features,
    (patch, patch),
    strides=patch,
    padding="VALID",
    dtype=dtype,
    name="patch_embedding",
  )
  return embed(x).reshape(len(x), -1, features)


class ViT(Classifier):
  """A vision transformer.

  A block-wise key can be folded into its patch embedding, which then takes
  transformed images: `keyjax.schemes.patch_embedding`.

  References:
    Dosovitskiy et al., "An Image is Worth 16x16 Words", arXiv:2010.11929,
    2020. Mean pooling: Beyer et al., "Better plain ViT baselines for
    ImageNet-1k", arXiv:2205.01580, 2022.

  Attributes:
    features: of a patch.
    depth: how many blocks.
    heads: of each attention.
    patch: side of the patches.
    pooling: `token` (a class token, as published) or `mean`.
    remat: whether the backward pass computes each block again.
  """

  features: int = 192
  depth: int = 12
  heads: int = 3
  patch: int = 16
  pooling: str = "token"
  remat: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Returns the logits of images in [0, 1], all of one size."""
    del train  # Unused: nothing here differs in training.
    if self.pooling not in ("token", "mean"):
      raise ValueError(f"Expected pooling={self.pooling!r} as token or mean.")
    x = self.normalise(x)
    x = patches(x, self.features, self.patch, self.dtype)
    if self.pooling == "token":
      shape = (1, 1, self.features)
      token = self.param("class_token", nn.initializers.zeros, shape)
      first = jnp.broadcast_to(token, (len(x), *shape[1:]))
      x = jnp.concatenate([first.astype(self.dtype), x], axis=1)
    position = self.param(
      "position_embedding", nn.initializers.normal(0.02), (1, *x.shape[1:])
    )
    x = x + position.astype(self.dtype)
    block = nn.remat(TransformerBlock) if self.remat else TransformerBlock
    for i in range(self.depth):
      x = block(
        heads=self.heads,
        hidden=4 * self.features,
        dtype=self.dtype,
        name=f"block_{i}",
      )(x)
    x = layer_norm(x, self.dtype, "norm")
    pooled = x[:, 0] if self.pooling == "token" else jnp.mean(x, axis=1)
    return self.classify(pooled)
