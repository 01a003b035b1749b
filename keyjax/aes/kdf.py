"""Key derivation by label on the device: SP 800-108 in counter mode over CMAC.

On the host, `keyjax.keys` derives with HKDF-SHA-256. Inside `jit`, from traced
round keys, `derive` does the same with AES. Schemes generate their keys once on
the host, where the secret is, and use the former; this module is for programs
whose keys never leave the device.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.aes import block, checks, words
from keyjax.aes.host import Impl


def _doubled(x: jax.Array) -> jax.Array:
  """Return x times 2 in GF(2^128) of CMAC, uint32[4] big-endian."""
  carry = jnp.concatenate([x[1:] >> np.uint32(31), jnp.zeros(1, jnp.uint32)])
  out = (x << np.uint32(1)) | carry
  return out.at[3].set(out[3] ^ (np.uint32(0x87) * (x[0] >> np.uint32(31))))


@functools.partial(jax.jit, static_argnames="impl")
def cmac(
  round_keys: jax.Array, messages: jax.Array, *, impl: Impl = "auto"
) -> jax.Array:
  """Return the CMAC of each message; all messages have the same length.

  Args:
    round_keys: uint32[rounds + 1, 4], from `expand_key`.
    messages: uint8[n, size].
    impl: "host" for machine code, "device" for the bit-sliced circuit, or
      "auto" for the host on a CPU and the device elsewhere.

  Returns:
    uint8[n, 16].

  Raises:
    ValueError: If an array has another shape or dtype.

  References:
    NIST SP 800-38B, "The CMAC Mode for Authentication", 2005.

  Example:
    >>> from keyjax.aes import expand_key
    >>> key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    >>> tag = cmac(expand_key(key), jnp.zeros((1, 0), jnp.uint8))
    >>> bytes(tag[0]).hex()
    'bb1d6929e95937287fa37d129b756746'
  """
  checks.round_keys(round_keys)
  checks.array("messages", messages, jnp.uint8, ("n", "size"))
  n, size = messages.shape
  zero = jnp.zeros((1, 4), jnp.uint32)
  subkey = _doubled(words.swap(block.raw_encrypt(round_keys, zero, impl)[0]))
  if size == 0 or size % 16:
    subkey = _doubled(subkey)
    end = jnp.full((n, 1), 0x80, jnp.uint8)
    messages = jnp.concatenate([messages, end], axis=1)
    messages = jnp.pad(messages, ((0, 0), (0, -messages.shape[1] % 16)))
  # uint8[n, 16 * blocks] -> uint32[n, blocks, 4]
  blocks = words.from_bytes(messages.reshape(-1)).reshape(n, -1, 4)
  blocks = blocks.at[:, -1].set(blocks[:, -1] ^ words.swap(subkey)[None])

  def step(state: jax.Array, x: jax.Array) -> tuple[jax.Array, None]:
    return block.raw_encrypt(round_keys, state ^ x, impl), None

  state, _ = jax.lax.scan(
    step, jnp.zeros((n, 4), jnp.uint32), blocks.swapaxes(0, 1)
  )
  return words.to_bytes(state, 16 * n).reshape(n, 16)


def derive(
  round_keys: jax.Array,
  label: str,
  length: int,
  context: jax.Array | None = None,
  *,
  impl: Impl = "auto",
) -> jax.Array:
  """Derive bytes that are bound to a label and a context.

  Args:
    round_keys: uint32[rounds + 1, 4] of a key that is used only for derivation.
    label: Purpose of the bytes, such as a scheme, a leaf path and a position.
    length: Number of bytes, at most 2^28; static.
    context: uint8[n], such as a nonce; may be traced; empty if None.
    impl: Same as in `cmac`.

  Returns:
    uint8[length].

  Raises:
    ValueError: If `length` is out of range, the label contains a zero byte,
      which is its terminator, or an array has another shape or dtype.

  References:
    NIST SP 800-108r1, "Recommendation for Key Derivation Using Pseudorandom
    Functions", section 4.1 (counter mode, 32-bit counter and length).

  Example:
    >>> from keyjax.aes import expand_key
    >>> key = expand_key(bytes(16))
    >>> bytes(derive(key, "a", 4)) == bytes(derive(key, "b", 4))
    False
  """
  if not 0 < length <= 2**28:
    raise ValueError(f"length must be 1 to 2^28 bytes, got {length}")
  if "\0" in label:
    raise ValueError("a label must not contain a zero byte")
  if context is not None:
    checks.array("context", context, jnp.uint8, ("n",))
  n = -(-length // 16)
  counters = np.arange(1, n + 1, dtype=">u4").view(np.uint8).reshape(n, 4)
  before = label.encode() + b"\0"
  after = (8 * length).to_bytes(4, "big")
  parts = [
    jnp.asarray(np.frombuffer(before, np.uint8)),
    jnp.zeros(0, jnp.uint8) if context is None else context,
    jnp.asarray(np.frombuffer(after, np.uint8)),
  ]
  fixed = jnp.concatenate(parts)
  fixed = jnp.broadcast_to(fixed[None], (n, fixed.shape[0]))
  messages = jnp.concatenate([jnp.asarray(counters), fixed], axis=1)
  return cmac(round_keys, messages, impl=impl).reshape(-1)[:length]
