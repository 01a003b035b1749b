"""Sentence embeddings: BERT's encoder, a mean over tokens, unit length."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.base import Dtype, check_tokens
from experiments.models.layout import (
  Layout,
  register_architecture,
  register_layout,
)
from experiments.models.transformer import Attention, layer_norm

PADDING = 0  # Token that is no part of a text.
_LEAST = 1e-12  # Of lengths: that of no vector at all.


class BertBlock(nn.Module):
  """Attention, then a feed-forward layer, each followed by a normalisation.

  Attributes:
    heads: Heads of the attention.
    hidden: Units of the feed-forward layer.
    epsilon: Epsilon of the normalisations.
    dtype: Type of the computation.
  """

  heads: int
  hidden: int
  epsilon: float = 1e-12
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, seen: jax.Array) -> jax.Array:
    """Return `float[b, t, d]` of features `[b, t, d]` and `bool[b, t]`."""
    attention = Attention(self.heads, dtype=self.dtype, name="attention")
    x = x + attention(x, seen)
    x = layer_norm(x, self.dtype, "norm_attention", self.epsilon)
    # [b, t, d] -> [b, t, hidden] -> [b, t, d]
    y = nn.Dense(self.hidden, dtype=self.dtype, name="mlp_in")(x)
    y = nn.gelu(y, approximate=False)
    y = nn.Dense(x.shape[-1], dtype=self.dtype, name="mlp_out")(y)
    return layer_norm(x + y, self.dtype, "norm_mlp", self.epsilon)


class SentenceEncoder(nn.Module):
  """BERT's encoder, whose outputs are averaged over the tokens of a text.

  The defaults are the shape of all-MiniLM-L6-v2.

  References:
    Devlin et al., "BERT", arXiv:1810.04805, 2018: normalisation after each
    branch, exact GELU. Reimers and Gurevych, "Sentence-BERT",
    arXiv:1908.10084, 2019: the mean over tokens. Wang et al., "MiniLM",
    arXiv:2002.10957, 2020. No dropout.

  Attributes:
    vocabulary: Number of different tokens.
    context: Longest input, in tokens.
    features: Features of a token, and of a text.
    depth: Number of blocks.
    heads: Heads of each attention.
    hidden: Units of a feed-forward layer.
    segments: Kinds of text in the table of token types; the first one is used.
    epsilon: Epsilon of the normalisations.
    dtype: Type of the computation; parameters and embeddings stay `float32`.
  """

  vocabulary: int = 30522
  context: int = 512
  features: int = 384
  depth: int = 6
  heads: int = 12
  hidden: int = 1536
  segments: int = 2
  epsilon: float = 1e-12
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, tokens: jax.Array, train: bool = False) -> jax.Array:
    """Return embeddings of length 1, `float32[b, features]`, of `int[b, t]`.

    Args:
      tokens: Tokens of each text, then as many `PADDING` as fill the row.
      train: Unused: training is no different here.

    Raises:
      ValueError: If the tokens are no integers, or too many.
    """
    del train
    check_tokens(tokens, self.context)
    seen = tokens != PADDING
    tables = {"token": self.vocabulary, "segment": self.segments}
    token, segment = (
      nn.Embed(n, self.features, dtype=self.dtype, name=f"{k}_embedding")
      for k, n in tables.items()
    )
    position = self.param(
      "position_embedding",
      nn.initializers.normal(0.02),
      (1, self.context, self.features),
    )
    # int[b, t] -> [b, t, features]
    x = token(tokens) + segment(jnp.zeros_like(tokens))
    x = x + position[:, : tokens.shape[1]].astype(self.dtype)
    x = layer_norm(x, self.dtype, "norm", self.epsilon)
    for i in range(self.depth):
      x = BertBlock(
        self.heads, self.hidden, self.epsilon, self.dtype, name=f"block_{i}"
      )(x, seen)
    counted = seen[..., None].astype(jnp.float32)
    total = (x.astype(jnp.float32) * counted).sum(1)  # [b, features]
    mean = total / jnp.maximum(counted.sum(1), 1)
    length = jnp.linalg.norm(mean, axis=-1, keepdims=True)
    return mean / jnp.maximum(length, _LEAST)


def from_config(config: Mapping[str, Any]) -> SentenceEncoder:
  """Return the encoder that a `config.json` of Hugging Face describes.

  Raises:
    ValueError: If a setting is missing, or is one that is not built.
  """
  built = {"hidden_act": "gelu", "position_embedding_type": "absolute"}
  for name, value in built.items():
    if config.get(name, value) != value:
      raise ValueError(f"{name}={config[name]!r} of a BERT is not built")
  names = {
    "vocabulary": "vocab_size",
    "context": "max_position_embeddings",
    "features": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "hidden": "intermediate_size",
    "segments": "type_vocab_size",
    "epsilon": "layer_norm_eps",
  }
  missing = sorted(set(names.values()) - set(config))
  if missing:
    raise ValueError(f"the config of a BERT lacks {', '.join(missing)}")
  return SentenceEncoder(**{own: config[name] for own, name in names.items()})


register_architecture("bert", from_config)
# Hugging Face's BertModel. The pooler is of another task.
register_layout(
  SentenceEncoder,
  Layout(
    modules={
      r"token_embedding": "embeddings.word_embeddings",
      r"segment_embedding": "embeddings.token_type_embeddings",
      r"norm": "embeddings.LayerNorm",
      r"block_(\d+)/attention/(query|key|value)": (
        "encoder.layer.{1}.attention.self.{2}"
      ),
      r"block_(\d+)/attention/out": "encoder.layer.{1}.attention.output.dense",
      r"block_(\d+)/norm_attention": (
        "encoder.layer.{1}.attention.output.LayerNorm"
      ),
      r"block_(\d+)/mlp_in": "encoder.layer.{1}.intermediate.dense",
      r"block_(\d+)/mlp_out": "encoder.layer.{1}.output.dense",
      r"block_(\d+)/norm_mlp": "encoder.layer.{1}.output.LayerNorm",
    },
    parameters={"position_embedding": "embeddings.position_embeddings.weight"},
    ignored=r"embeddings\.position_ids|pooler\..*",
    prefix=r"(module\.|bert\.)+",
  ),
)
