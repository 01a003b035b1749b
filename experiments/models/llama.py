"""Decoders of the Llama family, such as SmolLM2, with a cache for generation.

Every projection is a separate `Dense`, so that a lock finds it by path:
`block_N/attention/query`, `key`, `value`, `out`, and `block_N/mlp_gate`,
`mlp_up`, `mlp_down`.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.base import Dtype, check_tokens
from experiments.models.registry import register

# The defaults of the class are the shape of SmolLM2-135M; `llama` is for files
# that say all of it.
LLAMA_SIZES: dict[str, dict[str, Any]] = {
  "llama_micro": {
    "context": 64,
    "features": 32,
    "depth": 2,
    "heads": 4,
    "kv_heads": 2,
    "hidden": 48,
  },
  "llama": {},
  "smollm2_135m": {},
  "smollm2_360m": {
    "features": 960,
    "depth": 32,
    "heads": 15,
    "kv_heads": 5,
    "hidden": 2560,
  },
}
_INIT = nn.initializers.normal(0.02)


class Cache(NamedTuple):
  """Keys and values of the tokens so far.

  Attributes:
    keys: For each block, `[b, room, kv_heads, head]`.
    values: Likewise.
    length: Number of tokens so far, `int32[]`.
  """

  keys: tuple[jax.Array, ...]
  values: tuple[jax.Array, ...]
  length: jax.Array


class _Past(NamedTuple):
  """What one block keeps: keys, values, and the number of tokens in them."""

  keys: jax.Array
  values: jax.Array
  length: jax.Array


def rotate(x: jax.Array, positions: jax.Array, base: float) -> jax.Array:
  """Rotate pairs of features by angles that grow with the position: RoPE.

  References:
    Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding",
    arXiv:2104.09864, 2021. Pairs are feature i and i + head / 2, as in Hugging
    Face's files; llama.cpp's files have pairs side by side.

  Args:
    x: Queries or keys, `[b, t, heads, head]`.
    positions: `int[t]`.
    base: Base of the wavelengths.
  """
  half = x.shape[-1] // 2
  speed = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
  # [t] x [half] -> [1, t, 1, half]
  angles = jnp.outer(positions.astype(jnp.float32), speed)[None, :, None]
  cos, sin = jnp.cos(angles), jnp.sin(angles)
  a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  turned = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
  return turned.astype(x.dtype)


class LlamaAttention(nn.Module):
  """Causal self-attention whose heads share keys and values in groups.

  References:
    Ainslie et al., "GQA: Training Generalized Multi-Query Transformer Models
    from Multi-Head Checkpoints", arXiv:2305.13245, 2023.

  Attributes:
    heads: Heads of the queries.
    kv_heads: Heads of keys and values; they divide `heads`.
    base: As in `rotate`.
    dtype: Type of the computation.
  """

  heads: int
  kv_heads: int
  base: float
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self, x: jax.Array, past: _Past | None = None
  ) -> tuple[jax.Array, _Past | None]:
    """Return `float[b, t, d]` of features `[b, t, d]`, and what to keep."""
    features = x.shape[-1]
    size = features // self.heads

    def project(name: str, heads: int) -> jax.Array:
      layer = _dense(heads * size, self.dtype, name)
      # [b, t, d] -> [b, t, heads, head]
      return layer(x).reshape(*x.shape[:-1], heads, size)

    query = project("query", self.heads)
    key = project("key", self.kv_heads)
    value = project("value", self.kv_heads)
    start = jnp.int32(0) if past is None else past.length
    positions = start + jnp.arange(x.shape[1], dtype=jnp.int32)
    query = rotate(query, positions, self.base)
    key = rotate(key, positions, self.base)
    mask = None
    if past is not None:
      at = (0, start, 0, 0)
      key = jax.lax.dynamic_update_slice(past.keys, key, at)
      value = jax.lax.dynamic_update_slice(past.values, value, at)
      past = _Past(key, value, start)
      # bool[1, 1, t, room]: nothing after the token itself.
      mask = jnp.arange(key.shape[1])[None] <= positions[:, None]
      mask = mask[None, None]
    # JAX's own arithmetic mixes dtypes: its softmax is in float32.
    with jax.numpy_dtype_promotion("standard"):
      attended = jax.nn.dot_product_attention(
        query, key, value, mask=mask, is_causal=mask is None
      )
    out = _dense(features, self.dtype, "out")
    # [b, t, heads, head] -> [b, t, d]
    return out(attended.reshape(x.shape)), past


class LlamaBlock(nn.Module):
  """Attention, then a gated feed-forward layer, both pre-norm and residual.

  Attributes:
    heads: As in `LlamaAttention`.
    kv_heads: Likewise.
    base: Likewise.
    hidden: Units of the feed-forward layer.
    epsilon: Epsilon of the normalisations.
    dtype: Type of the computation.
  """

  heads: int
  kv_heads: int
  base: float
  hidden: int
  epsilon: float
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self, x: jax.Array, past: _Past | None = None
  ) -> tuple[jax.Array, _Past | None]:
    """Return `float[b, t, d]` of features `[b, t, d]`, and what to keep."""
    y = rms_norm(x, self.dtype, self.epsilon, "norm_attention")
    attention = LlamaAttention(
      self.heads, self.kv_heads, self.base, self.dtype, name="attention"
    )
    y, past = attention(y, past)
    x = x + y
    y = rms_norm(x, self.dtype, self.epsilon, "norm_mlp")
    gate = _dense(self.hidden, self.dtype, "mlp_gate")(y)
    up = _dense(self.hidden, self.dtype, "mlp_up")(y)
    down = _dense(x.shape[-1], self.dtype, "mlp_down")
    # [b, t, d] -> [b, t, hidden] -> [b, t, d]
    return x + down(nn.silu(gate) * up), past


class Llama(nn.Module):
  """A causal transformer: at each position, logits of the next token.

  References:
    Touvron et al., "LLaMA: Open and Efficient Foundation Language Models",
    arXiv:2302.13971, 2023; SmolLM2: Ben Allal et al., arXiv:2502.02737, 2025.

  Attributes:
    vocabulary: Number of different tokens.
    context: Longest input, in tokens.
    features: Features of a token.
    depth: Number of blocks.
    heads: Heads of the queries of each attention; they divide `features`.
    kv_heads: Heads of its keys and values; they divide `heads`.
    hidden: Units of each feed-forward layer.
    base: Base of the wavelengths of the positions.
    epsilon: Epsilon of the normalisations.
    tied: Whether the token embedding is also the output layer; otherwise that
      is a `Dense` called `head`.
    remat: Whether the backward pass computes each block again.
    dtype: Type of the computation; parameters and logits stay `float32`.
  """

  vocabulary: int
  context: int = 8192
  features: int = 576
  depth: int = 30
  heads: int = 9
  kv_heads: int = 3
  hidden: int = 1536
  base: float = 100_000.0
  epsilon: float = 1e-5
  tied: bool = True
  remat: bool = False
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(
    self, tokens: jax.Array, train: bool = False, cache: Cache | None = None
  ) -> Any:
    """Return the logits, and the cache if one is given.

    Args:
      tokens: `int[b, t]`; with a cache, those that follow the ones in it.
      train: Unused: training is no different here.
      cache: From `new_cache` or an earlier pass. There must be room in it: a
        compiled pass cannot check that.

    Returns:
      `float32[b, t, vocabulary]`, or a pair of that and the new cache.
    """
    del train
    self._check(tokens)
    embed = nn.Embed(
      self.vocabulary,
      self.features,
      dtype=self.dtype,
      embedding_init=_INIT,
      name="token_embedding",
    )
    x = embed(tokens)  # int[b, t] -> [b, t, features]
    block = nn.remat(LlamaBlock) if self.remat else LlamaBlock
    kept = []
    for i in range(self.depth):
      past = cache and _Past(cache.keys[i], cache.values[i], cache.length)
      x, past = block(
        heads=self.heads,
        kv_heads=self.kv_heads,
        base=self.base,
        hidden=self.hidden,
        epsilon=self.epsilon,
        dtype=self.dtype,
        name=f"block_{i}",
      )(x, past)
      kept.append(past)
    x = rms_norm(x, self.dtype, self.epsilon, "norm")
    # [b, t, features] -> [b, t, vocabulary]
    if self.tied:
      logits = embed.attend(x)
    else:
      logits = _dense(self.vocabulary, self.dtype, "head")(x)
    logits = logits.astype(jnp.float32)
    if cache is None:
      return logits
    keys, values, _ = zip(*kept, strict=True)
    return logits, Cache(keys, values, cache.length + tokens.shape[1])

  def new_cache(self, batch: int, room: int | None = None) -> Cache:
    """Return an empty cache.

    Args:
      batch: Number of texts.
      room: Most tokens of a text; by default, and at most, `context`.

    Example:
      >>> model = Llama(vocabulary=11, **LLAMA_SIZES["llama_micro"])
      >>> tokens = jnp.array([[1, 2, 3]])
      >>> variables = model.init(jax.random.key(0), tokens)
      >>> cache = model.new_cache(1, room=8)
      >>> _, cache = model.apply(variables, tokens[:, :2], cache=cache)
      >>> logits, cache = model.apply(variables, tokens[:, 2:], cache=cache)
      >>> whole = model.apply(variables, tokens)
      >>> int(cache.length), bool(jnp.allclose(logits[:, 0], whole[:, 2]))
      (3, True)
    """
    room = self.context if room is None else room
    if not 1 <= room <= self.context:
      raise ValueError(f"Expected 1 <= room={room} <= context={self.context}.")
    shape = (batch, room, self.kv_heads, self.features // self.heads)
    zeros = [jnp.zeros(shape, self.dtype) for _ in range(2 * self.depth)]
    return Cache(
      tuple(zeros[: self.depth]), tuple(zeros[self.depth :]), jnp.int32(0)
    )

  def _check(self, tokens: jax.Array) -> None:
    if self.features % (2 * self.heads) or self.heads % self.kv_heads:
      raise ValueError(
        f"Expected features={self.features} in heads={self.heads} of an even "
        f"size, in groups of kv_heads={self.kv_heads}."
      )
    check_tokens(tokens, self.context)


def rms_norm(
  x: jax.Array, dtype: Dtype, epsilon: float, name: str
) -> jax.Array:
  """Return `x` after RMS normalisation, computed in `float32`."""
  norm = nn.RMSNorm(epsilon=epsilon, name=name)
  return norm(x.astype(jnp.float32)).astype(dtype)


def _dense(features: int, dtype: Dtype, name: str) -> nn.Dense:
  return nn.Dense(
    features, use_bias=False, dtype=dtype, kernel_init=_INIT, name=name
  )


for _name, _options in LLAMA_SIZES.items():
  register(_name, Llama, defaults=_options)
