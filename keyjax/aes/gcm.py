"""AES-GCM: authenticated encryption, on the device and on the host.

On the device the counter blocks are bit-sliced AES and the tag is a matrix
product (`ghash`). On the host machine code computes both. Inside `jit`,
`gcm_open` cannot raise: if authentication fails, it returns zeros and a false
flag.

One key and nonce must never seal two messages. One message has at most
2^36 - 32 bytes (SP 800-38D), which is checked.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.aes import block, checks, ghash, host, words
from keyjax.aes.host import Impl

MAX_BYTES = 2**36 - 32
TAG_BYTES = 16


def _check(
  round_keys: jax.Array, data: jax.Array, aad: jax.Array, nonce: jax.Array
) -> None:
  checks.round_keys(round_keys)
  for name, x in (("data", data), ("aad", aad), ("nonce", nonce)):
    checks.array(name, x, jnp.uint8, ("n",))
  if data.shape[0] > MAX_BYTES:
    raise ValueError(
      f"cannot seal {data.shape[0]} bytes: one key and nonce allow at most "
      f"{MAX_BYTES}"
    )
  if nonce.shape[0] == 0:
    raise ValueError("the nonce is empty: GCM needs at least one byte; use 12")


def lengths(aad_bytes: int, data_bytes: int) -> jax.Array:
  """Return the last block of a GHASH, uint32[4] in memory order."""
  data = (8 * aad_bytes).to_bytes(8, "big") + (8 * data_bytes).to_bytes(
    8, "big"
  )
  return jnp.asarray(np.frombuffer(data, np.uint32))


def hashed(
  tables: tuple[jax.Array, ...], aad: jax.Array, ciphertext: jax.Array
) -> jax.Array:
  """Return GHASH of padded data, padded ciphertext and lengths, uint32[4]."""
  blocks = jnp.concatenate(
    [
      words.from_bytes(aad),
      words.from_bytes(ciphertext),
      lengths(aad.shape[0], ciphertext.shape[0])[None],
    ]
  )
  return ghash.ghash(tables, blocks[None])[0]


def hash_blocks(aad_bytes: int, data_bytes: int) -> int:
  """Return the number of blocks that `hashed` hashes."""
  return -(-aad_bytes // 16) + -(-data_bytes // 16) + 1


def _first_counter(
  round_keys: jax.Array, nonce: jax.Array
) -> tuple[jax.Array | None, jax.Array]:
  """Return the hash key, if it was needed, and J0 as big-endian words."""
  if nonce.shape[0] == 12:
    j0 = words.swap(words.from_bytes(nonce)[0])
    return None, j0.at[3].set(np.uint32(1))
  zero = jnp.zeros((1, 4), jnp.uint32)
  hash_key = block.raw_encrypt(round_keys, zero, "device")[0]
  tables = ghash.tables(hash_key, hash_blocks(0, nonce.shape[0]))
  empty = jnp.zeros(0, jnp.uint8)
  return hash_key, words.swap(hashed(tables, empty, nonce))


def stream(
  round_keys: jax.Array, nonce: jax.Array, num_bytes: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Return the hash key, the mask of the tag and the keystream bytes."""
  n = -(-num_bytes // 16)
  hash_key, j0 = _first_counter(round_keys, nonce)
  counters = words.swap(
    words.add32(j0[None], jnp.arange(n + 1, dtype=jnp.uint32))
  )
  # One cipher call: the zero block, J0 and the counters, [n + 2, 4].
  counters = jnp.concatenate([jnp.zeros((1, 4), jnp.uint32), counters])
  out = block.raw_encrypt(round_keys, counters, "device")
  hash_key = out[0] if hash_key is None else hash_key
  return hash_key, out[1], words.to_bytes(out[2:], num_bytes)


def tag_of(
  tables: tuple[jax.Array, ...],
  mask: jax.Array,
  aad: jax.Array,
  ciphertext: jax.Array,
) -> jax.Array:
  """Return the tag uint8[16]."""
  digest = hashed(tables, aad, ciphertext)
  return words.to_bytes((digest ^ mask)[None], TAG_BYTES)


def _seal(
  round_keys: jax.Array,
  nonce: jax.Array,
  data: jax.Array,
  aad: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  hash_key, mask, pad = stream(round_keys, nonce, data.size)
  tables = ghash.tables(hash_key, hash_blocks(aad.size, data.size))
  ciphertext = data ^ pad
  return ciphertext, tag_of(tables, mask, aad, ciphertext)


def _open(
  round_keys: jax.Array,
  nonce: jax.Array,
  ciphertext: jax.Array,
  tag: jax.Array,
  aad: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  size = ciphertext.size
  hash_key, mask, pad = stream(round_keys, nonce, size)
  tables = ghash.tables(hash_key, hash_blocks(aad.size, size))
  expected = tag_of(tables, mask, aad, ciphertext)[: tag.size]
  valid = jnp.all(expected == tag)
  return jnp.where(valid, ciphertext ^ pad, np.uint8(0)), valid


@functools.partial(jax.jit, static_argnames="impl")
def gcm_seal(
  round_keys: jax.Array,
  nonce: jax.Array,
  data: jax.Array,
  aad: jax.Array,
  *,
  impl: Impl = "auto",
) -> tuple[jax.Array, jax.Array]:
  """Encrypt and authenticate bytes with AES-GCM.

  Args:
    round_keys: uint32[rounds + 1, 4], from `expand_key`.
    nonce: uint8[12], never used twice with a key; other lengths are hashed.
    data: uint8[n], at most 2^36 - 32 bytes.
    aad: uint8[m], authenticated but not encrypted; may be empty.
    impl: "host" for machine code, "device" for the bit-sliced circuit, or
      "auto" for the host on a CPU and the device elsewhere.

  Returns:
    The ciphertext uint8[n] and the tag uint8[16].

  Raises:
    ValueError: If an array has another dtype or shape, or the data is too long.

  References:
    NIST SP 800-38D, "Galois/Counter Mode (GCM) and GMAC", 2007.

  Example:
    >>> from keyjax.aes import expand_key
    >>> key, nonce = expand_key(bytes(16)), jnp.zeros(12, jnp.uint8)
    >>> empty = jnp.zeros(0, jnp.uint8)
    >>> sealed, tag = gcm_seal(key, nonce, jnp.zeros(16, jnp.uint8), empty)
    >>> bytes(sealed).hex(), bytes(tag).hex()
    ('0388dace60b6a392f328c2b971b2fe78', 'ab6e47d42cec13bdf53a67b21257bddf')
  """
  _check(round_keys, data, aad, nonce)
  args = (round_keys, nonce, data, aad)
  return host.choose(impl, host.gcm_seal, _seal, *args)


@functools.partial(jax.jit, static_argnames="impl")
def gcm_open(
  round_keys: jax.Array,
  nonce: jax.Array,
  ciphertext: jax.Array,
  tag: jax.Array,
  aad: jax.Array,
  *,
  impl: Impl = "auto",
) -> tuple[jax.Array, jax.Array]:
  """Decrypt and verify what `gcm_seal` returned.

  Args:
    round_keys: uint32[rounds + 1, 4], from `expand_key`.
    nonce: uint8[12], or the nonce used for sealing.
    ciphertext: uint8[n].
    tag: uint8[16], or its first 4 to 15 bytes if a protocol truncates it.
    aad: uint8[m].
    impl: Same as in `gcm_seal`.

  Returns:
    The plaintext uint8[n] and the flag bool[], which is true if the ciphertext
    is authentic. Otherwise the plaintext is all zeros.

  Raises:
    ValueError: If an array has another dtype or shape, or the tag is not 4 to
      16 bytes long.
  """
  _check(round_keys, ciphertext, aad, nonce)
  checks.array("tag", tag, jnp.uint8, ("n",))
  if not 4 <= tag.size <= TAG_BYTES:
    raise ValueError(f"a tag has 4 to {TAG_BYTES} bytes, got {tag.shape}")
  args = (round_keys, nonce, ciphertext, tag, aad)
  return host.choose(impl, host.gcm_open, _open, *args)
