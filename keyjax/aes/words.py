"""Conversions between bytes, words in memory order and big-endian words.

Inside this package a block is uint32[4] in memory order: a bit-cast of its 16
bytes, which costs nothing. The standards and the public functions use
big-endian words; `swap` converts between the two.
"""

import jax
import jax.numpy as jnp
import numpy as np


def swap(x: jax.Array) -> jax.Array:
  """Reverse the four bytes of each word, uint32[...]."""
  low = np.uint32(0x00FF00FF)
  x = ((x & low) << np.uint32(8)) | ((x >> np.uint32(8)) & low)
  return (x << np.uint32(16)) | (x >> np.uint32(16))


def from_bytes(x: jax.Array) -> jax.Array:
  """Pack bytes into blocks, padded with zeros, in memory order.

  uint8[n] -> uint32[ceil(n / 16), 4]
  """
  x = jnp.pad(x, (0, -x.shape[0] % 16))
  # [16 * blocks] -> [blocks, 4 words, 4 bytes] -> [blocks, 4]
  return jax.lax.bitcast_convert_type(x.reshape(-1, 4, 4), jnp.uint32)


def to_bytes(blocks: jax.Array, size: int) -> jax.Array:
  """Unpack the first `size` bytes of blocks.

  uint32[n, 4] -> uint8[size]
  """
  return jax.lax.bitcast_convert_type(blocks, jnp.uint8).reshape(-1)[:size]


def add32(counter: jax.Array, n: jax.Array) -> jax.Array:
  """Add n to the last word of a counter modulo 2^32, as GCM does.

  Args:
    counter: uint32[..., 4], big-endian words.
    n: uint32[...], with the rank of the leading axes, or a scalar.

  Returns:
    uint32[..., 4], big-endian words.
  """
  last = counter[..., 3] + n
  high = jnp.broadcast_to(counter[..., :3], (*last.shape, 3))
  return jnp.concatenate([high, last[..., None]], axis=-1)


def add(counter: jax.Array, n: jax.Array) -> jax.Array:
  """Return `counter + n` modulo 2^128.

  Args:
    counter: uint32[..., 4], big-endian words.
    n: uint32[...], with the rank of the leading axes, or a scalar.

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
