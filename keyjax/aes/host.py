"""AES by OpenSSL on the host, also from inside `jit` on a CPU.

A callback gets and gives NumPy arrays and never calls JAX. What enters it has
at most 64 KiB an array: JAX copies larger ones on the thread pool that the
callback's own program occupies, and waits for ever when all threads do so.
"""

import threading
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.custom_batching
import jax.numpy as jnp
import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from keyjax.aes import schedule

Impl = Literal["auto", "host", "device"]
Direction = Literal["encrypt", "decrypt"]

# OpenSSL is fastest when source and target stay in a core's cache.
PIECE = 1 << 16
# A callback costs as much as 64 KiB of AES, so it takes several such arrays.
PIECES = 8
_ZEROS = memoryview(bytes(PIECE))
_KEPT_WORDS = 1 << 24
# Schedules of AES-256 that fit in what a callback takes.
_MOST_KEYS = PIECE // 240
_thread = threading.local()


def choose(
  impl: Impl,
  host: Callable[..., Any],
  device: Callable[..., Any],
  *args: Any,
) -> Any:
  """Returns `host(*args)` on a CPU and `device(*args)` elsewhere.

  Args:
    impl: "auto", or "host" or "device" to have that one everywhere.
    host: a function of arrays that calls OpenSSL.
    device: the same function, bit-sliced.
    *args: arrays.

  Raises:
    ValueError: `impl` is none of the three.
  """
  if impl == "auto":
    return jax.lax.platform_dependent(*args, cpu=host, default=device)
  if impl not in ("host", "device"):
    raise ValueError(f'impl is "auto", "host" or "device", got {impl!r}')
  return host(*args) if impl == "host" else device(*args)


def _fill(out: np.ndarray, key: bytes, counter: int, swapped: bool) -> None:
  """Writes the CTR keystream that begins at `counter` into uint32[n]."""
  start = (counter % 2**128).to_bytes(16, "big")
  stream = Cipher(algorithms.AES(key), modes.CTR(start)).encryptor()
  for i in range(0, out.size, PIECE // 4):
    piece = out[i : i + PIECE // 4]
    stream.update_into(_ZEROS[: piece.nbytes], piece.view(np.uint8).data)
    if swapped:
      piece.byteswap(inplace=True)  # While it is in cache.


def _buffer(size: int) -> np.ndarray:
  """Returns uint32[size] to fill; JAX copies it before the thread's next use.

  Fresh memory costs as much as the cipher: a thread keeps up to 64 MiB.
  """
  if size > _KEPT_WORDS:
    return np.empty(size, np.uint32)
  kept = getattr(_thread, "buffer", None)
  if kept is None or kept.size < size:
    kept = _thread.buffer = np.empty(size, np.uint32)
  return kept[:size]


def _number(words: np.ndarray) -> int:
  return int.from_bytes(words.astype(">u4").tobytes(), "big")


def keystream(
  num_blocks: int, swapped: bool, round_keys: jax.Array, counter: jax.Array
) -> jax.Array:
  """Returns keystream blocks, uint32[num_blocks, 4].

  Args:
    num_blocks: how many.
    swapped: whether words are big-endian, rather than in memory order.
    round_keys: uint32[rounds + 1, 4].
    counter: uint32[4], big-endian words.
  """

  def callback(keys: Any, counters: Any) -> np.ndarray:
    keys, counters = np.asarray(keys), np.asarray(counters)
    out = _buffer(len(keys) * num_blocks * 4).reshape(len(keys), -1)
    for row, key, counter in zip(out, keys, counters, strict=True):
      _fill(row, schedule.key_of(key), _number(counter), swapped)
    return out.reshape(len(keys), num_blocks, 4)

  def call(keys: jax.Array, counters: jax.Array) -> jax.Array:
    like = jax.ShapeDtypeStruct((len(keys), num_blocks, 4), jnp.uint32)
    return jax.pure_callback(
      callback, like, keys, counters, vmap_method="sequential"
    )

  @jax.custom_batching.custom_vmap
  def one(keys: jax.Array, counter: jax.Array) -> jax.Array:
    return call(keys[None], counter[None])[0]

  @one.def_vmap
  def many(
    size: int, batched: list[bool], *args: jax.Array
  ) -> tuple[jax.Array, bool]:
    group, rows = min(size, _MOST_KEYS), []
    for x, given in zip(args, batched, strict=True):
      x = x if given else jnp.broadcast_to(x[None], (size, *x.shape))
      x = jnp.pad(x, [(0, -size % group), *[(0, 0)] * (x.ndim - 1)])
      rows.append(x.reshape(-1, group, *x.shape[1:]))
    out = jax.lax.map(lambda x: call(*x), tuple(rows))
    return out.reshape(-1, num_blocks, 4)[:size], True

  return one(round_keys, counter)


def pieces(x: jax.Array, rows: int) -> list[jax.Array]:
  """Returns `x` as arrays of `rows` rows, each small enough for a callback."""
  return [x[i : i + rows] for i in range(0, x.shape[0], rows)]


def crypt_blocks(
  round_keys: jax.Array, blocks: jax.Array, direction: Direction
) -> jax.Array:
  """Returns each block encrypted or decrypted, uint32[n, 4] both."""

  def callback(keys: Any, *blocks: Any) -> np.ndarray:
    key = algorithms.AES(schedule.key_of(np.asarray(keys)))
    cipher = Cipher(key, modes.ECB())
    stream = (
      cipher.encryptor() if direction == "encrypt" else cipher.decryptor()
    )
    out = b"".join(stream.update(np.asarray(x).tobytes()) for x in blocks)
    return np.frombuffer(out, np.uint32).reshape(-1, 4)

  def tile(blocks: jax.Array) -> jax.Array:
    return jax.pure_callback(
      callback,
      jax.ShapeDtypeStruct(blocks.shape, jnp.uint32),
      round_keys,
      *pieces(blocks, PIECE // 16),
      vmap_method="sequential",
    )

  n, size = blocks.shape[0], PIECES * PIECE // 16
  if n <= size:
    return tile(blocks)
  tiles = jnp.pad(blocks, ((0, -n % size), (0, 0))).reshape(-1, size, 4)
  return jax.lax.map(tile, tiles).reshape(-1, 4)[:n]


def gcm_fits(*sizes: int, nonce: int) -> bool:
  """Tells whether OpenSSL may do GCM in a callback on such arrays."""
  return max(sizes) <= PIECE and 8 <= nonce <= 128


def gcm_seal(
  round_keys: jax.Array, nonce: jax.Array, data: jax.Array, aad: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns the ciphertext uint8[n] and the tag uint8[16]."""

  def callback(*args: Any) -> tuple[np.ndarray, np.ndarray]:
    keys, nonce, data, aad = map(np.asarray, args)
    mode = modes.GCM(nonce.tobytes())
    stream = Cipher(algorithms.AES(schedule.key_of(keys)), mode).encryptor()
    stream.authenticate_additional_data(aad.tobytes())
    out = np.frombuffer(stream.update(data.tobytes()), np.uint8)
    stream.finalize()
    return out, np.frombuffer(stream.tag, np.uint8)

  like = (
    jax.ShapeDtypeStruct(data.shape, jnp.uint8),
    jax.ShapeDtypeStruct((16,), jnp.uint8),
  )
  return jax.pure_callback(
    callback, like, round_keys, nonce, data, aad, vmap_method="sequential"
  )


def gcm_open(
  round_keys: jax.Array,
  nonce: jax.Array,
  ciphertext: jax.Array,
  tag: jax.Array,
  aad: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Returns the plaintext uint8[n], or zeros, and whether it is authentic."""

  def callback(*args: Any) -> tuple[np.ndarray, np.ndarray]:
    keys, nonce, data, tag, aad = map(np.asarray, args)
    mode = modes.GCM(nonce.tobytes(), tag.tobytes(), min_tag_length=4)
    stream = Cipher(algorithms.AES(schedule.key_of(keys)), mode).decryptor()
    stream.authenticate_additional_data(aad.tobytes())
    out = np.frombuffer(stream.update(data.tobytes()), np.uint8)
    try:
      stream.finalize()
    except InvalidTag:
      return np.zeros_like(out), np.array(False)
    return out, np.array(True)

  like = (
    jax.ShapeDtypeStruct(ciphertext.shape, jnp.uint8),
    jax.ShapeDtypeStruct((), jnp.bool_),
  )
  args = (round_keys, nonce, ciphertext, tag, aad)
  return jax.pure_callback(callback, like, *args, vmap_method="sequential")
