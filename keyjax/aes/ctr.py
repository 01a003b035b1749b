"""AES in counter mode: any slice of a keystream, computed separately."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.aes import bitslice, block, checks, host, tpu, words
from keyjax.aes.host import Impl

# The limit of SP 800-38D for a key and nonce, also applied to counter mode.
MAX_BLOCKS = 2**32 - 2


def check_length(start: Any, num_blocks: int) -> None:
  """Raise ValueError if one key and counter would produce too many blocks.

  A traced start is taken modulo 2^32 and cannot be checked.
  """
  if not jnp.issubdtype(jnp.result_type(start), jnp.integer) or jnp.ndim(start):
    raise ValueError(
      f"start is {jnp.result_type(start)}{list(jnp.shape(start))}, not a whole "
      "number of blocks"
    )
  first = 0 if isinstance(start, jax.core.Tracer) else int(start)
  if first < 0 or num_blocks < 0 or first + num_blocks > MAX_BLOCKS:
    raise ValueError(
      f"cannot make blocks {first} to {first + num_blocks}: one key and "
      f"counter allow at most {MAX_BLOCKS} (64 GiB)"
    )


def bit_sliced(
  num_blocks: int,
  swapped: bool,
  most_lanes: int,
  round_keys: jax.Array,
  counter: jax.Array,
) -> jax.Array:
  """Return `raw_keystream` in tiles of at most `most_lanes` lanes."""
  lanes = block.tile_lanes(most_lanes, num_blocks)
  tiles = -(-num_blocks // (32 * lanes))
  keys = bitslice.masks(round_keys)

  def make(i: jax.Array) -> bitslice.State:
    first = words.add(counter, i * np.uint32(32 * lanes))
    return bitslice.counter_planes(first, lanes)

  out = block.in_tiles(
    lambda s: bitslice.encrypt_planes(keys, s),
    make,
    jnp.arange(tiles, dtype=jnp.uint32),
  )
  out = out[:num_blocks]
  return words.swap(out) if swapped else out


def raw_keystream(
  round_keys: jax.Array,
  counter: jax.Array,
  num_blocks: int,
  impl: Impl,
  swapped: bool = False,
  flat: bool = False,
) -> jax.Array:
  """Return a keystream as its consumer reads it.

  Args:
    round_keys: uint32[rounds + 1, 4].
    counter: uint32[4], big-endian words.
    num_blocks: Number of blocks.
    impl: See `keystream`.
    swapped: True for big-endian words, false for memory order.
    flat: True to return the words of all blocks in one dimension.

  Returns:
    uint32[num_blocks, 4], or uint32[4 * num_blocks].
  """

  def view(blocks: jax.Array) -> jax.Array:
    return blocks.reshape(-1) if flat else blocks

  return block.choose(
    impl,
    lambda *args: view(host.keystream(num_blocks, swapped, *args)),
    lambda *args: view(bit_sliced(num_blocks, swapped, *args)),
    functools.partial(tpu.keystream, num_blocks, swapped, flat),
    round_keys,
    counter,
  )


def keystream(
  round_keys: jax.Array,
  counter: jax.Array,
  num_blocks: int,
  start: int | jax.Array = 0,
  *,
  impl: Impl = "auto",
) -> jax.Array:
  """Return blocks of the CTR keystream, starting at any block.

  Block i encrypts `counter + start + i` modulo 2^128 (SP 800-38A, 6.5).

  Args:
    round_keys: uint32[rounds + 1, 4], from `expand_key`.
    counter: uint32[4], the first counter block as big-endian words.
    num_blocks: Number of blocks of 16 bytes; static.
    start: Number of blocks to skip, below 2^32; may be traced.
    impl: "host" for machine code, "device" for the bit-sliced circuit, or
      "auto" for the host on a CPU and the device elsewhere.

  Returns:
    uint32[num_blocks, 4], the keystream as big-endian words.

  Raises:
    ValueError: If the blocks of one key and counter exceed 2^32 - 2, 64 GiB, or
      an array has another shape or dtype.

  References:
    NIST SP 800-38A, "Recommendation for Block Cipher Modes of Operation".

  Example:
    >>> from keyjax.aes import expand_key
    >>> key, zero = expand_key(bytes(16)), jnp.zeros(4, jnp.uint32)
    >>> hex(keystream(key, zero, 3)[2, 0])
    '0x388dace'
    >>> hex(keystream(key, zero, 1, start=2)[0, 0])
    '0x388dace'
  """
  checks.round_keys(round_keys)
  checks.counter(counter)
  check_length(start, num_blocks)
  first = np.uint32(start) if isinstance(start, int | np.integer) else start
  return _keystream(round_keys, counter, num_blocks, first, impl)


@functools.partial(jax.jit, static_argnums=(2, 4))
def _keystream(
  round_keys: jax.Array,
  counter: jax.Array,
  num_blocks: int,
  start: Any,
  impl: Impl,
) -> jax.Array:
  first = words.add(jnp.asarray(counter), jnp.asarray(start, jnp.uint32))
  return raw_keystream(round_keys, first, num_blocks, impl, swapped=True)
