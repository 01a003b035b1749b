"""MLP-Mixer."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.base import Classifier, Dtype
from experiments.models.registry import register
from experiments.models.transformer import layer_norm
from experiments.models.vit import patches

# Tolstikhin et al., table 1.
MIXER_SIZES = {
  "s": {"features": 512, "depth": 8, "tokens": 256},
  "b": {"features": 768, "depth": 12, "tokens": 384},
  "micro": {"features": 32, "depth": 2, "tokens": 16, "patch": 4},
}


class MixerBlock(nn.Module):
  """Layer over patches, then layer over features.

  Attributes:
    tokens: Hidden units of the layer over patches.
    hidden: Hidden units of the layer over features.
    dtype: Type of the computation.
  """

  tokens: int
  hidden: int
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Return `float[b, t, d]` of features `[b, t, d]`."""
    # [b, t, d] -> [b, d, t]
    y = layer_norm(x, self.dtype, "norm_tokens").swapaxes(1, 2)
    y = nn.Dense(self.tokens, dtype=self.dtype, name="tokens_in")(y)
    y = nn.gelu(y, approximate=False)
    y = nn.Dense(x.shape[1], dtype=self.dtype, name="tokens_out")(y)
    x = x + y.swapaxes(1, 2)  # [b, d, t] -> [b, t, d]
    y = layer_norm(x, self.dtype, "norm_mlp")
    y = nn.Dense(self.hidden, dtype=self.dtype, name="mlp_in")(y)
    y = nn.gelu(y, approximate=False)
    return x + nn.Dense(x.shape[-1], dtype=self.dtype, name="mlp_out")(y)


class Mixer(Classifier):
  """An MLP-Mixer.

  References:
    Tolstikhin et al., "MLP-Mixer: An all-MLP Architecture for Vision",
    arXiv:2105.01601, 2021.

  Attributes:
    features: Features of a patch.
    depth: Number of blocks.
    tokens: Hidden units of the layers over patches.
    patch: Side of the patches.
    remat: Whether the backward pass computes each block again.
  """

  features: int = 512
  depth: int = 8
  tokens: int = 256
  patch: int = 16
  remat: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Return the logits of images in [0, 1], all of one size."""
    del train  # Unused: training is no different here.
    x = self.normalise(x)
    x = patches(x, self.features, self.patch, self.dtype)
    block = nn.remat(MixerBlock) if self.remat else MixerBlock
    for i in range(self.depth):
      x = block(
        tokens=self.tokens,
        hidden=4 * self.features,
        dtype=self.dtype,
        name=f"block_{i}",
      )(x)
    x = layer_norm(x, self.dtype, "norm")
    return self.classify(jnp.mean(x, axis=1))  # [b, t, d] -> [b, d]


for _size, _options in MIXER_SIZES.items():
  register(f"mixer_{_size}", Mixer, defaults=_options)
