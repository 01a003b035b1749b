"""The chunks of c2sp.org/chunked-encryption as functions of arrays.

Each 16 KiB of plaintext is one AES-GCM message: 1,024 counter blocks, and one
GHASH of 1,025 blocks whose matrices serve every chunk. Chunks are processed
in groups, one group after another, so that memory beyond input and output is
constant. `keyjax.seal` derives the keys and writes the header; `host_calls`
computes the same in machine code.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.aes import block, checks, gcm, ghash, host, words
from keyjax.aes.host import Direction, Impl
from keyjax.seal import host_calls
from keyjax.seal.format import (
  CHUNK_BYTES,
  SEALED_CHUNK_BYTES,
  TAG_BYTES,
  size_in_chunks,
)

_CHUNK_BLOCKS = CHUNK_BYTES // 16
_GROUP_CHUNKS = 256  # Chunks that a device seals at once.
_EMPTY = np.zeros(0, np.uint8)


def _chunk_nonces(base_nonce: jax.Array, index: jax.Array) -> jax.Array:
  """Return base_nonce XOR index as big-endian words, uint32[n, 3]."""
  # uint8[12] -> uint32[3]
  base = words.swap(words.from_bytes(base_nonce)[0, :3])
  first = jnp.broadcast_to(base[:2], (*index.shape, 2))
  return jnp.concatenate([first, (base[2] ^ index)[:, None]], axis=1)


def _masks_and_keystreams(
  round_keys: jax.Array, nonces: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Return tag masks uint32[n, 4] and keystreams uint32[n, 1024, 4]."""
  n = nonces.shape[0]
  size = _CHUNK_BLOCKS + 1
  last = jnp.arange(1, size + 1, dtype=jnp.uint32)
  # Nonces [n, 3] and counters [size] -> counter blocks [n, size, 4].
  counters = jnp.concatenate(
    [
      jnp.broadcast_to(nonces[:, None], (n, size, 3)),
      jnp.broadcast_to(last[None, :, None], (n, size, 1)),
    ],
    axis=2,
  )
  blocks = words.swap(counters).reshape(n * size, 4)
  stream = block.raw_encrypt(round_keys, blocks, "device").reshape(n, size, 4)
  return stream[:, 0], stream[:, 1:]


def _crypt_group(
  direction: Direction,
  round_keys: jax.Array,
  base_nonce: jax.Array,
  tables: tuple[jax.Array, ...],
  index: jax.Array,
  data: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Encrypt or decrypt full chunks, uint8[n, chunk], and check their tags."""
  # uint8[n, chunk] -> uint32[n, blocks, 4]; ciphertext has one more, the tag.
  blocks = words.from_bytes(data.reshape(-1)).reshape(data.shape[0], -1, 4)
  nonces = _chunk_nonces(base_nonce, index)
  mask, stream = _masks_and_keystreams(round_keys, nonces)
  crypted = blocks[:, :_CHUNK_BLOCKS] ^ stream
  if direction == "encrypt":
    ciphertext = crypted
  else:
    ciphertext = blocks[:, :_CHUNK_BLOCKS]
  lengths = gcm.lengths(0, CHUNK_BYTES)[None, None]
  lengths = jnp.broadcast_to(lengths, (data.shape[0], 1, 4))
  hashed = ghash.ghash(tables, jnp.concatenate([ciphertext, lengths], axis=1))
  tags = (hashed ^ mask)[:, None]
  if direction == "encrypt":
    sealed = jnp.concatenate([crypted, tags], axis=1)
    return _block_bytes(sealed), index == index
  valid = jnp.all(tags == blocks[:, _CHUNK_BLOCKS:], axis=(1, 2))
  return _block_bytes(crypted), valid


def _block_bytes(blocks: jax.Array) -> jax.Array:
  """Return blocks uint32[n, count, 4] as bytes uint8[n, count * 16]."""
  n, count, _ = blocks.shape
  return words.to_bytes(blocks, n * count * 16).reshape(n, count * 16)


def _map_groups(
  crypt: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
  size: int,
  data: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Apply `crypt` to groups of rows; return the rows and whether all pass."""
  n = data.shape[0]
  if n == 0:
    return data, jnp.asarray(True)
  size = min(n, size)
  # The rows that pad the last group never leave this function.
  # [n, row] -> [groups, size, row]
  data = jnp.pad(data, ((0, -n % size), (0, 0))).reshape(
    -1, size, data.shape[1]
  )
  index = jnp.arange(data.shape[0] * size, dtype=jnp.uint32)
  rows, valid = jax.lax.map(
    lambda group: crypt(*group), (index.reshape(-1, size), data)
  )
  return rows.reshape(-1, rows.shape[-1])[:n], jnp.all(valid.reshape(-1)[:n])


def _crypt_on_device(
  direction: Direction,
  round_keys: jax.Array,
  base_nonce: jax.Array,
  data: jax.Array,
) -> tuple[list[jax.Array], jax.Array]:
  """Encrypt or decrypt the chunks of a message.

  Args:
    direction: "encrypt" if `data` is plaintext.
    round_keys: uint32[rounds + 1, 4].
    base_nonce: uint8[12].
    data: uint8[m] of plaintext or of chunks.

  Returns:
    Byte arrays to concatenate, and whether all is authentic, bool[].
  """
  step = CHUNK_BYTES if direction == "encrypt" else SEALED_CHUNK_BYTES
  n = data.size // step
  # uint8[m] -> full chunks uint8[n, step] and the last, shorter one.
  rows = data[: n * step].reshape(n, step)
  last = data[n * step :]
  size = last.size - (0 if direction == "encrypt" else TAG_BYTES)
  hash_key, mask, pad = gcm.stream(round_keys, _last_nonce(base_nonce, n), size)
  tables = ghash.tables(
    hash_key, _CHUNK_BLOCKS + 1 if n else -(-size // 16) + 1
  )
  crypted = last[:size] ^ pad
  ciphertext = crypted if direction == "encrypt" else last[:size]
  tag = gcm.tag_of(tables, mask, jnp.asarray(_EMPTY), ciphertext)
  crypt = functools.partial(
    _crypt_group, direction, round_keys, base_nonce, tables
  )
  rows, valid = _map_groups(crypt, _GROUP_CHUNKS, rows)
  if direction == "encrypt":
    return [rows.reshape(-1), crypted, tag], valid
  return [rows.reshape(-1), crypted], valid & jnp.all(tag == last[size:])


def _seal_on_device(
  round_keys: jax.Array,
  base_nonce: jax.Array,
  data: jax.Array,
  header: jax.Array,
) -> jax.Array:
  parts, _ = _crypt_on_device("encrypt", round_keys, base_nonce, data)
  return jnp.concatenate([header, *parts])


def _open_on_device(
  round_keys: jax.Array, base_nonce: jax.Array, sealed: jax.Array
) -> tuple[jax.Array, jax.Array]:
  parts, valid = _crypt_on_device("decrypt", round_keys, base_nonce, sealed)
  return jnp.where(valid, jnp.concatenate(parts), np.uint8(0)), valid


def _last_nonce(base_nonce: jax.Array, index: int) -> jax.Array:
  last = np.frombuffer(index.to_bytes(12, "big"), np.uint8)
  return base_nonce ^ jnp.asarray(last)


def _check(
  round_keys: jax.Array, base_nonce: jax.Array, data: jax.Array
) -> None:
  checks.round_keys(round_keys)
  checks.array("base_nonce", base_nonce, jnp.uint8, (12,))
  checks.array("data", data, jnp.uint8, ("n",))
  if data.shape[0] // CHUNK_BYTES >= 2**32:
    raise ValueError("more than 2^32 chunks do not fit a device")


@functools.partial(jax.jit, static_argnames="impl")
def seal_chunks(
  round_keys: jax.Array,
  base_nonce: jax.Array,
  data: jax.Array,
  header: jax.Array,
  *,
  impl: Impl = "auto",
) -> jax.Array:
  """Seal bytes as chunks after a header.

  Args:
    round_keys: uint32[rounds + 1, 4], derived for this message only.
    base_nonce: uint8[12], derived with the key.
    data: uint8[n].
    header: uint8[h], copied to the front of the result.
    impl: "host" for machine code, "device" for the bit-sliced circuit, "auto"
      for "host" on a CPU and "device" elsewhere.

  Returns:
    uint8[h + n + 16 * (n // 16384 + 1)].

  Raises:
    ValueError: If an array has another dtype or shape, or `data` is too long.
  """
  _check(round_keys, base_nonce, data)
  checks.array("header", header, jnp.uint8, ("n",))
  args = (round_keys, base_nonce, data, header)
  return host.choose(impl, host_calls.seal, _seal_on_device, *args)


@functools.partial(jax.jit, static_argnames="impl")
def open_chunks(
  round_keys: jax.Array,
  base_nonce: jax.Array,
  sealed: jax.Array,
  *,
  impl: Impl = "auto",
) -> tuple[jax.Array, jax.Array]:
  """Open all chunks, or return zeros; inverse of `seal_chunks`.

  Args:
    round_keys: uint32[rounds + 1, 4].
    base_nonce: uint8[12].
    sealed: uint8[m], of a size that `seal_chunks` produces.
    impl: As in `seal_chunks`.

  Returns:
    The plaintext uint8[n], zeros if any chunk was altered, moved or removed,
    and whether all chunks are authentic, bool[].

  Raises:
    ValueError: If an array has another dtype or shape, or no message has chunks
      of that size.
  """
  _check(round_keys, base_nonce, sealed)
  size_in_chunks(sealed.size)  # Raises for a size that no message has.
  args = (round_keys, base_nonce, sealed)
  return host.choose(impl, host_calls.unseal, _open_on_device, *args)
