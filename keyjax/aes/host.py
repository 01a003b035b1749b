"""AES by machine code on the host, from inside `jit` on a CPU.

Each function here is one custom call (`native`). The devices into which a CPU
is split work in parallel.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from keyjax.aes import native

Impl = Literal["auto", "host", "device"]
Direction = Literal["encrypt", "decrypt"]


def resolve(impl: Impl) -> Impl:
  """Return `impl`, or "device" for "auto" if there is no native code.

  Raises:
    ValueError: If `impl` is none of the three.
  """
  if impl not in ("auto", "host", "device"):
    raise ValueError(f'impl must be "auto", "host" or "device", got {impl!r}')
  return "device" if impl == "auto" and not native.available() else impl


def choose(
  impl: Impl,
  host: Callable[..., Any],
  device: Callable[..., Any],
  *args: Any,
) -> Any:
  """Call `host(*args)` on a CPU and `device(*args)` elsewhere.

  Args:
    impl: "auto", or "host" or "device" to use that one everywhere.
    host: Function of arrays that makes a custom call.
    device: The same function, bit-sliced.
    *args: Arrays.
  """
  impl = resolve(impl)
  if impl == "auto":
    return jax.lax.platform_dependent(*args, cpu=host, default=device)
  return host(*args) if impl == "host" else device(*args)


def like(x: jax.Array) -> jax.ShapeDtypeStruct:
  """Return the shape and dtype of an array."""
  return jax.ShapeDtypeStruct(x.shape, x.dtype)


def keystream(
  num_blocks: int, swapped: bool, round_keys: jax.Array, counter: jax.Array
) -> jax.Array:
  """Return keystream blocks, uint32[num_blocks, 4].

  Args:
    num_blocks: Number of blocks.
    swapped: True for big-endian words, false for memory order.
    round_keys: uint32[rounds + 1, 4].
    counter: uint32[4], big-endian words.
  """
  name = "keyjax_keystream_swapped" if swapped else "keyjax_keystream"
  out = jax.ShapeDtypeStruct((num_blocks, 4), jnp.uint32)
  return native.call(name, [out], round_keys, counter)[0]


def xor(
  round_keys: jax.Array, counter: jax.Array, *leaves: jax.Array
) -> tuple[jax.Array, ...]:
  """Return leaves XOR the keystream; each leaf starts at a new block."""
  results = [native.varying(x, round_keys, counter, x) for x in leaves]
  return native.call("keyjax_xor", results, round_keys, counter, *leaves)


def crypt_blocks(
  round_keys: jax.Array, blocks: jax.Array, direction: Direction
) -> jax.Array:
  """Encrypt or decrypt blocks, uint32[n, 4]."""
  name = f"keyjax_ecb_{direction}"
  return native.call(name, [like(blocks)], round_keys, blocks)[0]


def gcm_seal(
  round_keys: jax.Array, nonce: jax.Array, data: jax.Array, aad: jax.Array
) -> tuple[jax.Array, ...]:
  """Return the ciphertext uint8[n] and the tag uint8[16]."""
  results = [like(data), jax.ShapeDtypeStruct((16,), jnp.uint8)]
  return native.call("keyjax_gcm_seal", results, round_keys, nonce, data, aad)


def gcm_open(
  round_keys: jax.Array,
  nonce: jax.Array,
  ciphertext: jax.Array,
  tag: jax.Array,
  aad: jax.Array,
) -> tuple[jax.Array, ...]:
  """Return the plaintext uint8[n], or zeros, and the flag of authenticity."""
  results = [like(ciphertext), jax.ShapeDtypeStruct((), jnp.bool_)]
  args = (round_keys, nonce, ciphertext, tag, aad)
  return native.call("keyjax_gcm_open", results, *args)
