"""The chunks of c2sp.org/chunked-encryption by OpenSSL, inside `jit` on a CPU.

A custom call each way (`ffi`): chunks go from XLA's memory to XLA's memory.
"""

import jax
import jax.numpy as jnp
import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyjax.aes import ffi, host, schedule

CHUNK = 1 << 14
TAG = 16


def sealed_bytes(size: int) -> int:
  """Returns the size of the chunks that hold `size` bytes, tags included."""
  return size + TAG * (size // CHUNK + 1)


def plain_bytes(size: int) -> int:
  """Returns the size of the plaintext of `size` bytes of chunks, or raises."""
  full, last = divmod(size, CHUNK + TAG)
  if last < TAG:
    raise ValueError(f"{size} bytes are no whole number of chunks and a last")
  return full * CHUNK + last - TAG


def nonce_of(base: bytes, index: int) -> bytes:
  """Returns the nonce of a chunk."""
  return (int.from_bytes(base, "big") ^ index).to_bytes(12, "big")


def _seal(args: list[np.ndarray], results: list[np.ndarray]) -> None:
  """Writes a header and the chunks of a message, by OpenSSL."""
  keys, base, data, header = args
  cipher, out = AESGCM(schedule.key_of(keys)), host.octets(results[0])
  view, start = host.octets(data), header.size
  out[:start] = host.octets(header)
  for i in range(data.size // CHUNK + 1):
    chunk = view[i * CHUNK : (i + 1) * CHUNK]
    end = start + len(chunk) + TAG
    nonce = nonce_of(base.tobytes(), i)
    cipher.encrypt_into(nonce, chunk, None, out[start:end])
    start = end


def _open(args: list[np.ndarray], results: list[np.ndarray]) -> None:
  """Writes the plaintext of chunks, or zeros, and whether all are authentic."""
  keys, base, data = args
  cipher, out = AESGCM(schedule.key_of(keys)), host.octets(results[0])
  view, start = host.octets(data), 0
  for i in range(data.size // (CHUNK + TAG) + 1):
    chunk = view[i * (CHUNK + TAG) : (i + 1) * (CHUNK + TAG)]
    end = start + len(chunk) - TAG
    nonce = nonce_of(base.tobytes(), i)
    try:
      cipher.decrypt_into(nonce, chunk, None, out[start:end])
    except InvalidTag:
      results[0][...], results[1][...] = 0, False
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
  """Returns a header and the chunks of `data`, uint8[...]."""
  size = header.size + sealed_bytes(data.size)
  result = jax.ShapeDtypeStruct((size,), jnp.uint8)
  args = (round_keys, base_nonce, data, header)
  return ffi.call("keyjax_chunks_seal", [result], *args)[0]


def unseal(
  round_keys: jax.Array, base_nonce: jax.Array, sealed: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns the plaintext, or zeros, and whether all is authentic."""
  results = [
    jax.ShapeDtypeStruct((plain_bytes(sealed.size),), jnp.uint8),
    jax.ShapeDtypeStruct((), jnp.bool_),
  ]
  args = (round_keys, base_nonce, sealed)
  return ffi.call("keyjax_chunks_open", results, *args)
