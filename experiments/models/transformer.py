"""Pre-norm transformer blocks, for images and for text.

Every projection is a separate `Dense`, so that a lock finds it by path:
`attention/query`, `attention/key`, `attention/value`, `attention/out`,
`mlp_in` and `mlp_out`.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.base import Dtype
from experiments.models.experts import Experts

_KERNEL_INIT = nn.initializers.lecun_normal()


def layer_norm(
  x: jax.Array, dtype: Dtype, name: str, epsilon: float = 1e-6
) -> jax.Array:
  """Return `x` after layer normalisation, computed in `float32`."""
  norm = nn.LayerNorm(epsilon=epsilon, name=name)
  return norm(x.astype(jnp.float32)).astype(dtype)


class Attention(nn.Module):
  """Multi-head self-attention.

  References:
    Vaswani et al., "Attention Is All You Need", arXiv:1706.03762, 2017.

  Attributes:
    heads: Number of heads; it divides the number of features.
    causal: Whether a position sees only itself and earlier positions.
    dtype: Type of the computation.
    kernel_init: Initialiser of query, key and value.
    out_init: Initialiser of the projection that is added to the residual.
  """

  heads: int
  causal: bool = False
  dtype: Dtype = jnp.float32
  kernel_init: Any = _KERNEL_INIT
  out_init: Any = _KERNEL_INIT

  @nn.compact
  def __call__(self, x: jax.Array, seen: jax.Array | None = None) -> jax.Array:
    """Return `float[b, t, d]` of features `[b, t, d]`.

    Args:
      x: Features.
      seen: Positions that others see, bool[b, t]; by default all.
    """
    features = x.shape[-1]
    if features % self.heads:
      raise ValueError(f"{self.heads} heads do not divide {features} features.")

    def project(name: str) -> jax.Array:
      layer = nn.Dense(
        features, dtype=self.dtype, kernel_init=self.kernel_init, name=name
      )
      # [b, t, d] -> [b, t, heads, d / heads]
      return layer(x).reshape(*x.shape[:-1], self.heads, -1)

    query = project("query")
    key = project("key")
    value = project("value")
    # bool[b, t] -> [b, heads, queries, keys]
    mask = None if seen is None else seen[:, None, None, :]
    # JAX's own arithmetic mixes dtypes: its softmax is in float32.
    with jax.numpy_dtype_promotion("standard"):
      attended = jax.nn.dot_product_attention(
        query, key, value, mask=mask, is_causal=self.causal
      )
    out = nn.Dense(
      features, dtype=self.dtype, kernel_init=self.out_init, name="out"
    )
    # [b, t, heads, d / heads] -> [b, t, d]
    return out(attended.reshape(x.shape))


class TransformerBlock(nn.Module):
  """Attention, then a feed-forward layer, both pre-norm and residual.

  Attributes:
    heads: Heads of the attention.
    hidden: Units of the feed-forward layer.
    causal: As in `Attention`.
    exact_gelu: Whether GELU is exact (ViT), or its tanh approximation (GPT-2).
    epsilon: Epsilon of the normalisations.
    dtype: Type of the computation.
    kernel_init: Initialiser of all layers but the last of each branch.
    out_init: Initialiser of the last layer of each branch.
    experts: Tiers whose experts add to the feed-forward layer's output.
    expert_attention: Whether experts have an attention of their own.
  """

  heads: int
  hidden: int
  causal: bool = False
  exact_gelu: bool = True
  epsilon: float = 1e-6
  dtype: Dtype = jnp.float32
  kernel_init: Any = _KERNEL_INIT
  out_init: Any = _KERNEL_INIT
  experts: Sequence[str] = ()
  expert_attention: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Return `float[b, t, d]` of features `[b, t, d]`."""
    y = layer_norm(x, self.dtype, "norm_attention", self.epsilon)
    x = x + Attention(
      heads=self.heads,
      causal=self.causal,
      dtype=self.dtype,
      kernel_init=self.kernel_init,
      out_init=self.out_init,
      name="attention",
    )(y)
    y = layer_norm(x, self.dtype, "norm_mlp", self.epsilon)
    if self.experts:
      attention = functools.partial(
        Attention, self.heads, self.causal, self.dtype
      )
      x = x + Experts(
        tuple(self.experts),
        self.hidden,
        x.shape[-1],
        self.dtype,
        attention if self.expert_attention else None,
        name="experts",
      )(y)
    # [b, t, d] -> [b, t, hidden] -> [b, t, d]
    y = nn.Dense(
      self.hidden,
      dtype=self.dtype,
      kernel_init=self.kernel_init,
      name="mlp_in",
    )(y)
    y = nn.gelu(y, approximate=not self.exact_gelu)
    y = nn.Dense(
      x.shape[-1],
      dtype=self.dtype,
      kernel_init=self.out_init,
      name="mlp_out",
    )(y)
    return x + y
