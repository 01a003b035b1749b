"""Vision transformers."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.base import Classifier, Dtype
from experiments.models.layout import THIRDS, Layout, register_layout
from experiments.models.registry import register
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
  """Return the embedded patches of images, `[b, patches, features]`.

  Call it in a module's compact method: it makes `patch_embedding`.

  Raises:
    ValueError: If the patches do not divide the image.
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
  # [b, h, w, c] -> [b, h / patch, w / patch, features] -> [b, t, features]
  return embed(x).reshape(len(x), -1, features)


class ViT(Classifier):
  """A vision transformer.

  A block-wise key can be folded into its patch embedding, which then takes
  transformed images: `keyjax.fold_patch_embedding`.

  References:
    Dosovitskiy et al., "An Image is Worth 16x16 Words", arXiv:2010.11929,
    2020. Mean pooling: Beyer et al., "Better plain ViT baselines for
    ImageNet-1k", arXiv:2205.01580, 2022.

  Attributes:
    features: Features of a patch.
    depth: Number of blocks.
    heads: Heads of each attention.
    patch: Side of the patches.
    pooling: `token` (a class token, as published) or `mean`.
    remat: Whether the backward pass computes each block again.
  """

  features: int = 192
  depth: int = 12
  heads: int = 3
  patch: int = 16
  pooling: str = "token"
  remat: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Return the logits of images in [0, 1], all of one size."""
    del train  # Unused: training is no different here.
    if self.pooling not in ("token", "mean"):
      raise ValueError(f"Expected pooling={self.pooling!r} as token or mean.")
    x = self.normalise(x)
    x = patches(x, self.features, self.patch, self.dtype)
    if self.pooling == "token":
      shape = (1, 1, self.features)
      token = self.param("class_token", nn.initializers.zeros, shape)
      first = jnp.broadcast_to(token, (len(x), *shape[1:]))
      # [b, t, features] -> [b, 1 + t, features]
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
    # [b, t, features] -> [b, features]
    pooled = x[:, 0] if self.pooling == "token" else jnp.mean(x, axis=1)
    return self.classify(pooled)


for _size, _options in VIT_SIZES.items():
  register(f"vit_{_size}", ViT, defaults=_options)
# timm's `vit_tiny`, `vit_small` and `vit_base`, with a class token.
register_layout(
  ViT,
  Layout(
    modules={
      r"patch_embedding": "patch_embed.proj",
      r"block_(\d+)/norm_attention": "blocks.{1}.norm1",
      r"block_(\d+)/attention/(query|key|value)": "blocks.{1}.attn.qkv",
      r"block_(\d+)/attention/out": "blocks.{1}.attn.proj",
      r"block_(\d+)/norm_mlp": "blocks.{1}.norm2",
      r"block_(\d+)/mlp_in": "blocks.{1}.mlp.fc1",
      r"block_(\d+)/mlp_out": "blocks.{1}.mlp.fc2",
      r"(norm|head)": "{1}",
    },
    parameters={"class_token": "cls_token", "position_embedding": "pos_embed"},
    thirds=THIRDS,
  ),
)
