"""Bytes, words in memory order, and words as the standards write them.

Inside this package a block is uint32[4] in memory order: a bit-cast of its 16
bytes, which costs nothing. The standards, and the public functions, count in
big-endian words; `swap` goes from one to the other.
"""

import jax
import jax.numpy as jnp
import numpy as np


def swap(x: jax.Array) -> jax.Array:
  """Returns words with their four bytes reversed, uint32[...]."""
  low = np.uint32(0x00FF00FF)
  x = ((x & low) << np.uint32(8)) | ((x >> np.uint32(8)) & low)
  return (x << np.uint32(16)) | (x >> np.uint32(16))


def from_bytes(x: jax.Array) -> jax.Array:
  """Returns uint8[n] as blocks uint32[ceil(n / 16), 4], padded with zeros."""
  x = jnp.pad(x, (0, -x.shape[0] % 16))
  return jax.lax.bitcast_convert_type(x.reshape(-1, 4, 4), jnp.uint32)


def to_bytes(blocks: jax.Array, size: int) -> jax.Array:
  """Returns the first `size` bytes of uint32[n, 4], uint8[size]."""
  return jax.lax.bitcast_convert_type(blocks, jnp.uint8).reshape(-1)[:size]


def add32(counter: jax.Array, n: jax.Array) -> jax.Array:
  """Returns `counter` with its last word plus n modulo 2^32, as GCM counts.

  Args:
    counter: uint32[..., 4], big-endian words.
    n: uint32[...], of the same rank as the leading axes, or a scalar.

  Returns:
    uint32[..., 4], big-endian words.
  """
  last = counter[..., 3] + n
  high = jnp.broadcast_to(counter[..., :3], (*last.shape, 3))
  return jnp.concatenate([high, last[..., None]], axis=-1)


def add(counter: jax.Array, n: jax.Array) -> jax.Array:
  """Returns `counter + n` modulo 2^128.

  Args:
    counter: uint32[..., 4], big-endian words.
    n: uint32[...], of the same rank as the leading axes, or a scalar.

  Returns:
    uint32[..., 4], big-endian words.
  """
  words: list[jax.Array] = []
  carry = n
  for i in (3, 2, 1, 0):
    total = counter[..., i] + carry
    carry = (total < carry).astype(jnp.uint32)
    words.append(total)
  return jnp.stack(words[::-1], axis=-1)
