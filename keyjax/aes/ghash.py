"""GHASH as a product of matrices over GF(2).

Multiplication by a fixed element of GF(2^128) is linear: a 128 x 128 matrix of
bits. A block times a power of the hash key is a vector times that power's
matrix, so a group of blocks is one product of 0/1 values modulo 2, which a
matrix unit computes in int8: 128 multiply-adds a bit, 1,024 a byte. Groups are
hashed again with a higher power of the key until one is left, so the depth is
logarithmic, and zero blocks in front have no effect.

References:
  NIST SP 800-38D, "Galois/Counter Mode (GCM) and GMAC", section 6.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

# Blocks hashed by one matrix: 64 x 128 x 128 bits are 1 MiB of int8.
GROUP = 64
# Bit i of a block, in the order of GCM, within its word in memory order.
_SHIFTS = np.array([8 * (i // 8) + 7 - i % 8 for i in range(32)], np.uint32)


@functools.cache
def _reduction() -> np.ndarray:
  """Return x^128 .. x^254 modulo the field polynomial, int8[127, 128]."""
  row = np.zeros(128, np.int8)
  row[[0, 1, 2, 7]] = 1
  rows = []
  for _ in range(127):
    rows.append(row)
    carry = row[127]
    row = np.concatenate([np.zeros(1, np.int8), row[:127]])
    row[[0, 1, 2, 7]] ^= carry
  return np.stack(rows)


def to_bits(blocks: jax.Array) -> jax.Array:
  """Unpack uint32[..., 4], memory order, into bits int8[..., 128]."""
  shifts = _SHIFTS.reshape((1,) * blocks.ndim + (32,))
  bits = (blocks[..., None] >> shifts) & np.uint32(1)
  # [..., 4, 32] -> [..., 128]
  return bits.astype(jnp.int8).reshape(*blocks.shape[:-1], 128)


def from_bits(bits: jax.Array) -> jax.Array:
  """Pack bits into uint32[..., 4], the inverse of `to_bits`."""
  words = bits.reshape(*bits.shape[:-1], 4, 32).astype(jnp.uint32)
  shifts = _SHIFTS.reshape((1,) * (words.ndim - 1) + (32,))
  return jnp.sum(words << shifts, axis=-1, dtype=jnp.uint32)


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
  """Return the product of matrices over GF(2), int8[..., n]."""
  out = jnp.matmul(a, b, preferred_element_type=jnp.int32)
  return (out & 1).astype(jnp.int8)


def _matrix(element: jax.Array) -> jax.Array:
  """Return the matrix of multiplication by `element`, int8[128, 128]."""
  # Row i is the element shifted by i places. A skewed reshape of its copies
  # makes them: [128 * 256] -> [128 * 255] -> [128, 255].
  padded = jnp.pad(element, (0, 128))
  rows = jnp.tile(padded, 128)[: 128 * 255].reshape(128, 255)
  return rows[:, :128] ^ _product(rows[:, 128:], jnp.asarray(_reduction()))


def _powers(element: jax.Array, n: int) -> jax.Array:
  """Return element^0 .. element^n for a power of two n, int8[n + 1, 128]."""
  one = jnp.zeros(128, jnp.int8).at[0].set(1)
  powers = element[None]
  while powers.shape[0] < n:
    powers = jnp.concatenate(
      [powers, _product(powers, _matrix(powers[-1]))], axis=0
    )
  return jnp.concatenate([one[None], powers])


def tables(hash_key: jax.Array, num_blocks: int) -> tuple[jax.Array, ...]:
  """Return the matrices that hash up to `num_blocks` blocks.

  Args:
    hash_key: uint32[4], the encryption of the zero block, memory order.
    num_blocks: Number of blocks, at least 1; static.

  Returns:
    One int8[128 * group, 128] for each level, and the matrix of the hash key.
  """
  element = to_bits(hash_key)
  levels = []
  last = _matrix(element)
  while num_blocks > 1:
    group = min(GROUP, 1 << (num_blocks - 1).bit_length())
    powers = _powers(element, group)
    matrices = jax.vmap(_matrix)(powers[group - 1 :: -1])
    levels.append(matrices.reshape(group * 128, 128))
    element = powers[group]
    num_blocks = -(-num_blocks // group)
  return (*levels, last)


def ghash(tables: tuple[jax.Array, ...], blocks: jax.Array) -> jax.Array:
  """Return the hash of each row of blocks.

  Args:
    tables: Result of `tables` for at least as many blocks.
    blocks: uint32[rows, n, 4], memory order.

  Returns:
    uint32[rows, 4].
  """
  rows, n, _ = blocks.shape
  bits = to_bits(blocks)
  for level in tables[:-1]:
    group = level.shape[0] // 128
    bits = jnp.pad(bits, ((0, 0), (-n % group, 0), (0, 0)))
    n = bits.shape[1] // group
    # [rows, n * group, 128] -> [rows, n, group * 128] -> [rows, n, 128]
    bits = _product(bits.reshape(rows, n, group * 128), level)
  return from_bits(_product(bits[:, 0], tables[-1]))
