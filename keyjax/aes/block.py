"""AES on independent blocks (FIPS 197), in tiles that stay in cache."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from keyjax.aes import bitslice, checks, host, lowering, tpu, words
from keyjax.aes.host import Impl

# Lanes of 32 blocks in a tile. On a CPU the planes of a tile stay in the cache
# of a core; on an accelerator they fill the device and stay in its cache.
CPU_LANES = 1 << 8
ACCELERATOR_LANES = 1 << 15


def choose(
  impl: Impl,
  on_host: Callable[..., Any],
  device: Callable[..., Any],
  on_tpu: Callable[..., Any] | None,
  *args: jax.Array,
) -> Any:
  """Call `host.choose` with a kernel for TPUs.

  Args:
    impl: See `host.choose`.
    on_host: See `host.choose`.
    device: Function, bit-sliced, that also takes the largest number of lanes.
    on_tpu: The same function without lanes as a kernel, or None for `device`.
    *args: Arrays.
  """
  accelerator = functools.partial(device, ACCELERATOR_LANES)
  if on_tpu is not None:
    accelerator = functools.partial(lowering.kernel_on_tpu, on_tpu, accelerator)
  impl = host.resolve(impl)
  if impl != "device":
    return host.choose(impl, on_host, accelerator, *args)
  cpu = functools.partial(device, CPU_LANES)
  return jax.lax.platform_dependent(*args, cpu=cpu, default=accelerator)


def tile_lanes(most: int, num_blocks: int) -> int:
  """Return the number of lanes in a tile for a number of blocks."""
  return max(1, min(most, -(-num_blocks // 32)))


def in_tiles(
  crypt: Callable[[bitslice.State], bitslice.State],
  make: Callable[[jax.Array], bitslice.State],
  xs: jax.Array,
) -> jax.Array:
  """Encrypt or decrypt tile after tile.

  Args:
    crypt: Function from planes to planes.
    make: Function from an element of `xs` to the planes of a tile.
    xs: Inputs of `make`, [tiles, ...].

  Returns:
    uint32[tiles * 32 * lanes, 4]; block j * lanes + l of a tile is bit j of
    lane l.
  """

  def tile(x: jax.Array) -> jax.Array:
    # [32, 4, lanes] -> [32, lanes, 4]
    return bitslice.from_planes(crypt(make(x))).transpose(0, 2, 1)

  return jax.lax.map(tile, xs).reshape(-1, 4)


def _crypt(
  crypt: Callable[[jax.Array, bitslice.State], bitslice.State],
  most_lanes: int,
  round_keys: jax.Array,
  blocks: jax.Array,
) -> jax.Array:
  n = blocks.shape[0]
  lanes = tile_lanes(most_lanes, blocks.shape[0])
  padded = jnp.pad(blocks, ((0, -n % (32 * lanes)), (0, 0)))
  tiles = padded.reshape(-1, 32, lanes, 4)  # [tiles, 32, lanes, 4]
  keys = bitslice.masks(round_keys)
  out = in_tiles(
    lambda s: crypt(keys, s),
    lambda x: bitslice.to_planes(x.transpose(0, 2, 1)),
    tiles,
  )
  return out[:n]


def raw_encrypt(
  round_keys: jax.Array, blocks: jax.Array, impl: Impl
) -> jax.Array:
  """Encrypt blocks uint32[n, 4] in memory order."""
  return choose(
    impl,
    lambda k, x: host.crypt_blocks(k, x, "encrypt"),
    functools.partial(_crypt, bitslice.encrypt_planes),
    tpu.encrypt_blocks,
    round_keys,
    blocks,
  )


def raw_decrypt(
  round_keys: jax.Array, blocks: jax.Array, impl: Impl
) -> jax.Array:
  """Decrypt blocks uint32[n, 4] in memory order."""
  return choose(
    impl,
    lambda k, x: host.crypt_blocks(k, x, "decrypt"),
    functools.partial(_crypt, bitslice.decrypt_planes),
    None,
    round_keys,
    blocks,
  )


@functools.partial(jax.jit, static_argnames="impl")
def encrypt_blocks(
  round_keys: jax.Array, blocks: jax.Array, *, impl: Impl = "auto"
) -> jax.Array:
  """Encrypt each block separately (ECB), as a building block of modes.

  Args:
    round_keys: uint32[rounds + 1, 4], from `expand_key`.
    blocks: uint32[n, 4], big-endian words.
    impl: "host" for machine code, "device" for the bit-sliced circuit, or
      "auto" for the host on a CPU and the device elsewhere.

  Returns:
    uint32[n, 4], big-endian words.

  Raises:
    ValueError: If an array has another shape or dtype.

  References:
    FIPS 197, "Advanced Encryption Standard", section 5.1.

  Example:
    >>> from keyjax.aes import expand_key
    >>> key = expand_key(bytes(range(16)))
    >>> block = jnp.arange(0x00112233, 2**32, 0x44444444, dtype=jnp.uint32)
    >>> [hex(x) for x in encrypt_blocks(key, block[None])[0]]
    ['0x69c4e0d8', '0x6a7b0430', '0xd8cdb780', '0x70b4c55a']
  """
  checks.round_keys(round_keys)
  checks.array("blocks", blocks, jnp.uint32, ("n", 4))
  return words.swap(raw_encrypt(round_keys, words.swap(blocks), impl))


@functools.partial(jax.jit, static_argnames="impl")
def decrypt_blocks(
  round_keys: jax.Array, blocks: jax.Array, *, impl: Impl = "auto"
) -> jax.Array:
  """Decrypt each block separately, the inverse of `encrypt_blocks`.

  Args:
    round_keys: uint32[rounds + 1, 4], from `expand_key`.
    blocks: uint32[n, 4], big-endian words.
    impl: Same as in `encrypt_blocks`.

  Returns:
    uint32[n, 4], big-endian words.

  Raises:
    ValueError: If an array has another shape or dtype.

  References:
    FIPS 197, "Advanced Encryption Standard", section 5.3.
  """
  checks.round_keys(round_keys)
  checks.array("blocks", blocks, jnp.uint32, ("n", 4))
  return words.swap(raw_decrypt(round_keys, words.swap(blocks), impl))
