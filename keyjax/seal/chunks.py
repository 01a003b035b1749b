"""The chunks of c2sp.org/chunked-encryption as functions of arrays.

Each 16 KiB of plaintext is one AES-GCM message: 1,024 counter blocks, all
alike, and one GHASH of 1,025 blocks whose matrices serve every chunk. Groups
of chunks go one after the other, so memory beyond input and output does not
grow. `keyjax.seal` derives the keys and writes the header; `chunked_host` is
the same by OpenSSL.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.aes import block, gcm, ghash, host, words
from keyjax.aes.host import Direction, Impl
from keyjax.seal import chunks_host as chunked_host
from keyjax.seal.chunks_host import CHUNK, TAG, plain_bytes

_BLOCKS = CHUNK // 16
# Chunks that a device seals at once.
_DEVICE_GROUP = 256


def _nonces(base_nonce: jax.Array, index: jax.Array) -> jax.Array:
  """Returns base_nonce XOR index as big-endian words, uint32[n, 3]."""
  base = words.swap(words.from_bytes(base_nonce)[0, :3])
  first = jnp.broadcast_to(base[:2], (*index.shape, 2))
  return jnp.concatenate([first, (base[2] ^ index)[:, None]], axis=1)


def _streams(
  round_keys: jax.Array, nonces: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns the tags' masks uint32[n, 4] and streams uint32[n, 1024, 4]."""
  n, size = nonces.shape[0], _BLOCKS + 1
  last = jnp.arange(1, size + 1, dtype=jnp.uint32)
  counters = jnp.concatenate(
    [
      jnp.broadcast_to(nonces[:, None], (n, size, 3)),
      jnp.broadcast_to(last[None, :, None], (n, size, 1)),
    ],
    axis=2,
  )
  blocks = words.swap(counters).reshape(n * size, 4)
  out = block.raw_encrypt(round_keys, blocks, "device").reshape(n, size, 4)
  return out[:, 0], out[:, 1:]


def _device_group(
  direction: Direction,
  round_keys: jax.Array,
  base_nonce: jax.Array,
  tables: tuple[jax.Array, ...],
  index: jax.Array,
  data: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  blocks = words.from_bytes(data.reshape(-1)).reshape(data.shape[0], -1, 4)
  nonces = _nonces(base_nonce, index)
  mask, stream = _streams(round_keys, nonces)
  out = blocks[:, :_BLOCKS] ^ stream
  ciphertext = out if direction == "encrypt" else blocks[:, :_BLOCKS]
  lengths = gcm.lengths(0, CHUNK)[None, None]
  lengths = jnp.broadcast_to(lengths, (data.shape[0], 1, 4))
  hashed = ghash.ghash(tables, jnp.concatenate([ciphertext, lengths], axis=1))
  tags = (hashed ^ mask)[:, None]
  if direction == "encrypt":
    return _rows(jnp.concatenate([out, tags], axis=1)), index == index
  return _rows(out), jnp.all(tags == blocks[:, _BLOCKS:], axis=(1, 2))


def _rows(blocks: jax.Array) -> jax.Array:
  n, count, _ = blocks.shape
  return words.to_bytes(blocks, n * count * 16).reshape(n, count * 16)


def _in_groups(
  one: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
  size: int,
  data: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Returns what `one` makes of groups of rows, and whether all are valid."""
  n = data.shape[0]
  if n == 0:
    return data, jnp.asarray(True)
  size = min(n, size)
  # Rows that fill the last group up never leave this function.
  data = jnp.pad(data, ((0, -n % size), (0, 0))).reshape(
    -1, size, data.shape[1]
  )
  index = jnp.arange(data.shape[0] * size, dtype=jnp.uint32)
  out, valid = jax.lax.map(lambda x: one(*x), (index.reshape(-1, size), data))
  return out.reshape(-1, out.shape[-1])[:n], jnp.all(valid.reshape(-1)[:n])


_EMPTY = np.zeros(0, np.uint8)


def _on_device(
  direction: Direction,
  round_keys: jax.Array,
  base_nonce: jax.Array,
  data: jax.Array,
) -> tuple[list[jax.Array], jax.Array]:
  """Returns a message the other way, in parts, and whether it is authentic.

  Args:
    direction: whether `data` is plaintext.
    round_keys: uint32[rounds + 1, 4].
    base_nonce: uint8[12].
    data: uint8[m] of plaintext or of chunks.

  Returns:
    Arrays of bytes to join, and bool[].
  """
  step = CHUNK if direction == "encrypt" else CHUNK + TAG
  n = data.size // step
  rows, last = data[: n * step].reshape(n, step), data[n * step :]
  size = last.size - (0 if direction == "encrypt" else TAG)
  hash_key, mask, pad = gcm.stream(
    round_keys, _last_nonce(base_nonce, n), size, "device"
  )
  tables = ghash.tables(hash_key, _BLOCKS + 1 if n else -(-size // 16) + 1)
  one = functools.partial(
    _device_group, direction, round_keys, base_nonce, tables
  )
  out = last[:size] ^ pad
  ciphertext = out if direction == "encrypt" else last[:size]
  tag = gcm.tag_of(tables, mask, jnp.asarray(_EMPTY), ciphertext)
  rows, valid = _in_groups(one, _DEVICE_GROUP, rows)
  if direction == "encrypt":
    return [rows.reshape(-1), out, tag], valid
  return [rows.reshape(-1), out], valid & jnp.all(tag == last[size:])


def _seal_on_device(
  round_keys: jax.Array,
  base_nonce: jax.Array,
  data: jax.Array,
  header: jax.Array,
) -> jax.Array:
  parts, _ = _on_device("encrypt", round_keys, base_nonce, data)
  return jnp.concatenate([header, *parts])


def _open_on_device(
  round_keys: jax.Array, base_nonce: jax.Array, sealed: jax.Array
) -> tuple[jax.Array, jax.Array]:
  parts, valid = _on_device("decrypt", round_keys, base_nonce, sealed)
  return jnp.where(valid, jnp.concatenate(parts), np.uint8(0)), valid


def _last_nonce(base_nonce: jax.Array, index: int) -> jax.Array:
  last = np.frombuffer(index.to_bytes(12, "big"), np.uint8)
  return base_nonce ^ jnp.asarray(last)


def _check(data: jax.Array) -> None:
  if data.ndim != 1 or data.dtype != jnp.uint8:
    raise ValueError(f"data is {data.dtype}{list(data.shape)}, not uint8[n]")
  if data.shape[0] // CHUNK >= 2**32:
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
  """Seals bytes as chunks after a header.

  Args:
    round_keys: uint32[rounds + 1, 4], derived for this message alone.
    base_nonce: uint8[12], derived with the key.
    data: uint8[n].
    header: uint8[h], what comes first, as it is.
    impl: "host" for OpenSSL, "device" for the bit-sliced circuit, "auto" for
      the first on a CPU and the second elsewhere.

  Returns:
    uint8[h + n + 16 * (n // 16384 + 1)].

  Raises:
    ValueError: `data` is not of bytes, or too long.
  """
  _check(data)
  args = (round_keys, base_nonce, data, header)
  return host.choose(impl, chunked_host.seal, _seal_on_device, *args)


@functools.partial(jax.jit, static_argnames="impl")
def open_chunks(
  round_keys: jax.Array,
  base_nonce: jax.Array,
  sealed: jax.Array,
  *,
  impl: Impl = "auto",
) -> tuple[jax.Array, jax.Array]:
  """Opens all chunks, or gives zeros and says so: inverse of `seal_chunks`.

  Args:
    round_keys: uint32[rounds + 1, 4].
    base_nonce: uint8[12].
    sealed: uint8[m], of a size that `seal_chunks` makes.
    impl: as in `seal_chunks`.

  Returns:
    The plaintext uint8[n], zeros if any chunk was altered, moved or cut, and
    bool[]: whether none was.

  Raises:
    ValueError: no message has chunks of that size.
  """
  _check(sealed)
  plain_bytes(sealed.size)  # Raises for a size that no message has.
  args = (round_keys, base_nonce, sealed)
  return host.choose(impl, chunked_host.unseal, _open_on_device, *args)
