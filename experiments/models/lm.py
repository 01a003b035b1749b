"""A decoder-only language model in GPT-2's layout."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.base import Dtype
from experiments.models.transformer import TransformerBlock, layer_norm

# GPT-2 small's shape is the class's default.
LM_SIZES = {
  "gpt2": {},
  "gpt_micro": {"context": 64, "features": 32, "depth": 2, "heads": 2},
}
_EPSILON = 1e-5


class LanguageModel(nn.Module):
  """A causal transformer: at each position, logits of the next token.

  References:
    Radford et al., "Language Models are Unsupervised Multitask Learners",
    2019: normalisation before each branch and at the end, tanh GELU, weights
    drawn with a deviation of 0.02, divided by the root of the number of
    branches where a branch ends. No dropout.

  Attributes:
    vocabulary: how many tokens there are.
    context: the longest input, in tokens.
    features: of a token.
    depth: how many blocks.
    heads: of each attention.
    tied: whether the token embedding is the output layer too, as published;
      else that is a `Dense` called `head`.
    remat: whether the backward pass computes each block again.
    dtype: of the computation; parameters and logits stay `float32`.
  """

  vocabulary: int
  context: int = 1024
  features: int = 768
  depth: int = 12
  heads: int = 12
  tied: bool = True
  remat: bool = False
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, tokens: jax.Array, train: bool = False) -> jax.Array:
    """Returns the logits, `float32[b, t, vocabulary]`, of `int[b, t]`."""
    del train  # Unused: nothing here differs in training.
    self._check(tokens)
    init = nn.initializers.normal(0.02)
    embed = nn.Embed(
      self.vocabulary,
      self.features,
      dtype=self.dtype,
      embedding_init=init,
      name="token_embedding",
    )
    position = self.param(
      "position_embedding", init, (1, self.context, self.features)
    )
    x = embed(tokens) + position[:, : tokens.shape[1]].astype(self.dtype)
    block = nn.remat(TransformerBlock) if self.remat else TransformerBlock
    for i in range(self.depth):
      x = block(
        heads=self.heads,
        hidden=4 * self.features,
        causal=True,
        exact_gelu=False,
        epsilon=_EPSILON,
        dtype=self.dtype,
        kernel_init=init,
        out_init=nn.initializers.normal(0.02 / math.sqrt(2 * self.depth)),
        name=f"block_{i}",
      )(x)
    x = layer_norm(x, self.dtype, "norm", _EPSILON)
    if self.tied:
      return embed.attend(x).astype(jnp.float32)
    head = nn.Dense(
      self.vocabulary,
      use_bias=False,
      dtype=self.dtype,
      kernel_init=init,
      name="head",
    )
    return head(x).astype(jnp.float32)

  def _check(self, tokens: jax.Array) -> None:
    if not jnp.issubdtype(tokens.dtype, jnp.integer) or tokens.ndim != 2:
      raise ValueError(
        f"Expected integer tokens [b, t], got {tokens.dtype}"
        f"{list(tokens.shape)}."
      )
    if tokens.shape[1] > self.context:
      raise ValueError(
        f"{tokens.shape[1]} tokens are more than context={self.context}."
      )
