"""The chunks of c2sp.org/chunked-encryption, inside `jit` on a CPU.

One custom call for each direction (`keyjax.aes.native`) reads from and writes
to XLA's own memory.
"""

import jax
import jax.numpy as jnp

from keyjax.aes import native
from keyjax.seal.format import size_in_chunks, size_of_chunks


def seal(
  round_keys: jax.Array,
  base_nonce: jax.Array,
  data: jax.Array,
  header: jax.Array,
) -> jax.Array:
  """Return a header and the chunks of `data`, uint8[m]."""
  size = header.size + size_of_chunks(data.size)
  result = jax.ShapeDtypeStruct((size,), jnp.uint8)
  args = (round_keys, base_nonce, data, header)
  return native.call("keyjax_chunks_seal", [result], *args)[0]


def unseal(
  round_keys: jax.Array, base_nonce: jax.Array, sealed: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Return the plaintext, or zeros, and whether all chunks are authentic."""
  results = [
    jax.ShapeDtypeStruct((size_in_chunks(sealed.size),), jnp.uint8),
    jax.ShapeDtypeStruct((), jnp.bool_),
  ]
  args = (round_keys, base_nonce, sealed)
  return native.call("keyjax_chunks_open", results, *args)
