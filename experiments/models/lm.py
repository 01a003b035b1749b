"""A decoder-only language model in GPT-2's layout."""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.base import Dtype, check_tokens
from experiments.models.experts import (
  Present,
  TokenExperts,
  present_experts,
)
from experiments.models.layout import THIRDS, Layout, register_layout
from experiments.models.registry import register
from experiments.models.transformer import TransformerBlock, layer_norm

# The defaults of the class are the shape of GPT-2 small.
LM_SIZES: dict[str, dict[str, int]] = {
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
    vocabulary: Number of different tokens.
    context: Longest input, in tokens.
    features: Features of a token.
    depth: Number of blocks.
    heads: Heads of each attention.
    tied: Whether the token embedding is also the output layer, as published;
      otherwise that is a `Dense` called `head`.
    remat: Whether the backward pass computes each block again.
    dtype: Type of the computation; parameters and logits stay `float32`.
    experts: Tiers of which each block has an expert; see
      `experiments.models.experts`.
    whole_experts: Whether experts also have an attention in each block, and a
      table that is added to the token embedding.
  """

  vocabulary: int
  context: int = 1024
  features: int = 768
  depth: int = 12
  heads: int = 12
  tied: bool = True
  remat: bool = False
  dtype: Dtype = jnp.float32
  experts: Sequence[str] = ()
  whole_experts: bool = False

  @nn.compact
  def __call__(
    self, tokens: jax.Array, train: bool = False, present: Present = None
  ) -> jax.Array:
    """Return the logits, `float32[b, t, vocabulary]`, of `int[b, t]`."""
    del train  # Unused: training is no different here.
    check_tokens(tokens, self.context)
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
    experts = present_experts(self.experts, present)
    tables = TokenExperts(
      experts if self.whole_experts else (),
      self.vocabulary,
      self.features,
      self.dtype,
      name="experts",
    )
    # int[b, t] -> [b, t, features]
    x = tables.add(embed(tokens), tokens)
    x = x + position[:, : tokens.shape[1]].astype(self.dtype)
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
        experts=experts,
        expert_attention=self.whole_experts,
        name=f"block_{i}",
      )(x)
    x = layer_norm(x, self.dtype, "norm", _EPSILON)
    # [b, t, features] -> [b, t, vocabulary]
    if self.tied:
      return tables.attend(embed.attend(x), x).astype(jnp.float32)
    head = nn.Dense(
      self.vocabulary,
      use_bias=False,
      dtype=self.dtype,
      kernel_init=init,
      name="head",
    )
    return head(x).astype(jnp.float32)


for _name, _options in LM_SIZES.items():
  register(_name, LanguageModel, defaults=_options)
# Hugging Face's GPT-2, with or without `transformer.` in front of each name.
register_layout(
  LanguageModel,
  Layout(
    modules={
      r"token_embedding": "wte",
      r"block_(\d+)/norm_attention": "h.{1}.ln_1",
      r"block_(\d+)/attention/(query|key|value)": "h.{1}.attn.c_attn",
      r"block_(\d+)/attention/out": "h.{1}.attn.c_proj",
      r"block_(\d+)/norm_mlp": "h.{1}.ln_2",
      r"block_(\d+)/mlp_in": "h.{1}.mlp.c_fc",
      r"block_(\d+)/mlp_out": "h.{1}.mlp.c_proj",
      r"norm": "ln_f",
      r"head": "lm_head",
    },
    parameters={"position_embedding": "wpe.weight"},
    thirds=THIRDS,
    transposed=False,
    # Masks; and the output layer of a tied model, which is `wte`.
    ignored=r"h\.\d+\.attn\.(masked_)?bias|lm_head\.weight",
  ),
)
