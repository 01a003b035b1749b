"""Gradients through a block-wise input transformation."""

import functools

import jax
import jax.numpy as jnp

from keyjax.attacks.pixel_shuffle import block_keys
from keyjax.scheme import ApplyFn
from keyjax.schemes.pixel_shuffle import FfxKey, PixelKey, transform


@functools.lru_cache(maxsize=16)
def under_key(apply_fn: ApplyFn) -> ApplyFn:
  """Return a differentiable pass over (key, params)."""
  return lambda pair, x: apply_fn(pair[1], differentiable(pair[0], x))


def differentiable(key: PixelKey, x: jax.Array) -> jax.Array:
  """Return `transform(key, x)` with a gradient where FFX has none.

  Its rounding passes straight through where a pixel is not encrypted. An
  encrypted value carries no information about the next one, and gets no
  gradient.
  """
  transformed = transform(key, x)
  if not isinstance(key, FfxKey):
    return transformed
  m = key.block_size
  blocks = block_keys.to_blocks(x, m)
  slope = 255 / key.table.max().astype(x.dtype)
  plain = jnp.where(key.mask, 0, blocks * slope).astype(x.dtype)
  smooth = block_keys.from_blocks(plain, m)
  return transformed + smooth - jax.lax.stop_gradient(smooth)
