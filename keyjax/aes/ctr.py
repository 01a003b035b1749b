"""AES in counter mode: any slice of a keystream, made alone."""

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.aes import bitslice

# Lanes of 32 blocks in a tile: its planes stay in a core's cache.
TILE_LANES = 128


def add(counter: jax.Array, n: jax.Array) -> jax.Array:
  """Returns `counter + n` modulo 2^128, uint32[..., 4] big-endian words."""
  words, carry = [], n
  for i in (3, 2, 1, 0):
    total = counter[..., i] + carry
    carry = (total < carry).astype(jnp.uint32)
    words.append(total)
  return jnp.stack(words[::-1], axis=-1)


def keystream(
  round_keys: jax.Array,
  counter: jax.Array,
  num_blocks: int,
  start: int | jax.Array = 0,
) -> jax.Array:
  """Returns blocks of the CTR keystream, beginning at any block.

  Block i encrypts `counter + start + i` modulo 2^128 (SP 800-38A, 6.5).

  Args:
    round_keys: uint32[rounds + 1, 4], from `expand_key`.
    counter: uint32[4], the first counter block as big-endian words.
    num_blocks: how many blocks of 16 bytes; static.
    start: how many blocks to skip, below 2^32; may be traced.

  Returns:
    uint32[num_blocks, 4], the keystream as big-endian words.
  """
  lanes = max(1, min(TILE_LANES, -(-num_blocks // 32)))
  tiles = -(-num_blocks // (32 * lanes))
  keys = bitslice.masks(round_keys)
  base = add(counter, jnp.asarray(start).astype(jnp.uint32))
  inside = jnp.arange(32 * lanes, dtype=jnp.uint32).reshape(32, lanes)

  def tile(i: jax.Array) -> jax.Array:
    counters = add(add(base, i * np.uint32(32 * lanes))[None, None, :], inside)
    planes = bitslice.to_planes(counters.transpose(0, 2, 1))
    words = bitslice.from_planes(bitslice.encrypt_planes(keys, planes))
    return words.transpose(0, 2, 1)

  blocks = jax.lax.map(tile, jnp.arange(tiles, dtype=jnp.uint32))
  return blocks.reshape(-1, 4)[:num_blocks]
