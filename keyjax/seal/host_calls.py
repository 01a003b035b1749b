"""The chunks of c2sp.org/chunked-encryption by OpenSSL, inside `jit` on a CPU.

One custom call for each direction (`keyjax.aes.ffi`) reads from and writes to
XLA's own memory.
"""

import jax
import jax.numpy as jnp
import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyjax.aes import ffi, host, schedule
from keyjax.seal.format import (
  CHUNK_BYTES,
  SEALED_CHUNK_BYTES,
  TAG_BYTES,
  chunk_nonce,
  size_in_chunks,
  size_of_chunks,
)


def _seal(args: list[np.ndarray], results: list[np.ndarray]) -> None:
  """Write a header and the chunks of a message."""
  round_keys, base_nonce, data, header = args
  cipher = AESGCM(schedule.key_of(round_keys))
  plain = host.octets(data)
  sealed = host.octets(results[0])
  start = header.size
  sealed[:start] = host.octets(header)
  for i in range(data.size // CHUNK_BYTES + 1):
    chunk = plain[i * CHUNK_BYTES : (i + 1) * CHUNK_BYTES]
    end = start + len(chunk) + TAG_BYTES
    nonce = chunk_nonce(base_nonce.tobytes(), i)
    cipher.encrypt_into(nonce, chunk, None, sealed[start:end])
    start = end


def _open(args: list[np.ndarray], results: list[np.ndarray]) -> None:
  """Write the plaintext of chunks, or zeros, and whether all are authentic."""
  round_keys, base_nonce, data = args
  cipher = AESGCM(schedule.key_of(round_keys))
  sealed = host.octets(data)
  plain = host.octets(results[0])
  start = 0
  for i in range(data.size // SEALED_CHUNK_BYTES + 1):
    chunk = sealed[i * SEALED_CHUNK_BYTES : (i + 1) * SEALED_CHUNK_BYTES]
    end = start + len(chunk) - TAG_BYTES
    nonce = chunk_nonce(base_nonce.tobytes(), i)
    try:
      cipher.decrypt_into(nonce, chunk, None, plain[start:end])
    except InvalidTag:
      results[0][...] = 0
      results[1][...] = False
      return
    start = end
  results[1][...] = True


ffi.register("keyjax_chunks_seal", _seal)
ffi.register("keyjax_chunks_open", _open)


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
  return ffi.call("keyjax_chunks_seal", [result], *args)[0]


def unseal(
  round_keys: jax.Array, base_nonce: jax.Array, sealed: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Return the plaintext, or zeros, and whether all chunks are authentic."""
  results = [
    jax.ShapeDtypeStruct((size_in_chunks(sealed.size),), jnp.uint8),
    jax.ShapeDtypeStruct((), jnp.bool_),
  ]
  args = (round_keys, base_nonce, sealed)
  return ffi.call("keyjax_chunks_open", results, *args)
