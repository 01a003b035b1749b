"""What is kept of a model's outputs, so that two passes can be compared.

An output may be too large to be kept. Its numbers are summed in a few thousand
buckets, each with a random sign, so that a difference in one row of features
shows in a bucket; and the bits of all of them go into one checksum, which shows
a difference in any bit.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import meshes

_BUCKETS = 8192  # Smaller outputs have one number in each.
_MASKED = 1e30  # A mask may hold the largest float, or minus infinity.
Arrays = list[np.ndarray]


def sample(out: Any) -> list[jax.Array]:
  """Return buckets [n] of its dtype, and a checksum, of each float array."""
  found: list[jax.Array] = []
  for x in jax.tree.leaves(out):
    if not hasattr(x, "dtype") or not jnp.issubdtype(x.dtype, jnp.inexact):
      continue
    if x.size:
      none = jnp.zeros(())
      for part in (x.real, x.imag) if jnp.iscomplexobj(x) else (x,):
        found += meshes.as_auto(_kept, [none, none], part)
  return found


def _kept(x: jax.Array) -> list[jax.Array]:
  # [..] -> [elements], and a random number of each position
  flat = x.reshape(-1)
  wide = flat.astype(jnp.float64 if flat.dtype == jnp.float64 else jnp.float32)
  at = jax.lax.iota(jnp.uint32, flat.size)
  at = _mixed(at ^ jnp.uint32(0x9E3779B9))
  return [_buckets(wide, at).astype(x.dtype), _checksum(wide, at)]


def _buckets(wide: jax.Array, at: jax.Array) -> jax.Array:
  size = jnp.abs(wide)
  # A masked number would drown the others; NaN stays.
  wide = jnp.where(size >= _MASKED, 0, wide)
  signed = jnp.where(at >> 31 == 0, wide, -wide)
  each = -(-signed.size // _BUCKETS)
  padded = jnp.pad(signed, (0, -signed.size % each))
  # Divided, so that a sum of 16-bit floats is not too large for them.
  return padded.reshape(-1, each).sum(1) / float(np.sqrt(each))


def _checksum(wide: jax.Array, at: jax.Array) -> jax.Array:
  # 0.0 and -0.0 are one number.
  numbers = jnp.where(wide == 0, 0, wide)
  words = jax.lax.bitcast_convert_type(numbers, jnp.uint32)
  words = words.reshape(at.size, -1)  # Two words of a float64.
  order = jnp.arange(1, words.shape[1] + 1, dtype=jnp.uint32)
  # Mixed: in a plain sum two changed signs would cancel out.
  return _mixed(words ^ at[:, None] * order[None]).sum(dtype=jnp.uint32)


def _mixed(word: jax.Array) -> jax.Array:
  """Return a hash of each uint32."""
  word = (word ^ word >> 16) * jnp.uint32(0x7FEB352D)
  word = (word ^ word >> 15) * jnp.uint32(0x846CA68B)
  return word ^ word >> 16


def has_nan(samples: Arrays) -> bool:
  """Return whether an output has a NaN."""
  return any(np.isnan(a).any() for a in samples)


def equal(a: Arrays, b: Arrays) -> bool:
  """Return whether all outputs agree to the last bit; NaN never does."""
  return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def close(a: Arrays, b: Arrays) -> bool:
  """Return whether outputs agree as two runs on a device do; NaN never does."""
  return all(
    x.dtype == np.uint32 or _close(x, y) for x, y in zip(a, b, strict=True)
  )


def _close(a: np.ndarray, b: np.ndarray) -> bool:
  tolerance = min(2 * float(jnp.finfo(a.dtype).eps) ** 0.5, 0.05)
  x, y = a.astype(np.float64), b.astype(np.float64)
  size = np.abs(x)
  usual = size[size > 0]
  slack = tolerance * (size + (np.median(usual) if usual.size else 0))
  return bool((np.abs(x - y) <= slack).all())


@functools.cache
def symmetric() -> bool:
  """Return whether this device multiplies by -w as by w, but for the sign.

  Then the outputs of a locked layer and of an absorbed one have equal bits.
  """
  rng = np.random.default_rng(0)
  x = rng.standard_normal((8, 300), np.float32)
  w = rng.standard_normal((300, 40), np.float32)
  product = jax.jit(jnp.matmul)

  def agree(x: np.ndarray, w: np.ndarray) -> bool:
    return bool((product(x, -w) == -product(x, w)).all())

  kinds = (jnp.float32, jnp.bfloat16, jnp.float16)
  return all(agree(x.astype(t), w.astype(t)) for t in kinds)
