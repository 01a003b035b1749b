"""AES by OpenSSL on the host, also from inside `jit` on a CPU.

A callback gets and gives NumPy arrays and never calls JAX. What enters it has
at most 64 KiB an array: JAX copies larger ones on the thread pool that the
callback's own program occupies, and waits for ever when all threads do so.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from keyjax.aes import schedule

Impl = Literal["auto", "host", "device"]
Direction = Literal["encrypt", "decrypt"]

# OpenSSL is fastest when source and target stay in a core's cache.
PIECE = 1 << 16
_ZEROS = memoryview(bytes(PIECE))


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


def _fill(out: np.ndarray, key: bytes, counter: int) -> None:
  """Writes the CTR keystream that begins at `counter` into uint8[n]."""
  start = (counter % 2**128).to_bytes(16, "big")
  stream = Cipher(algorithms.AES(key), modes.CTR(start)).encryptor()
  view = out.data
  for i in range(0, len(view), PIECE):
    size = min(PIECE, len(view) - i)
    stream.update_into(_ZEROS[:size], view[i : i + size])


def _number(words: np.ndarray) -> int:
  return int.from_bytes(words.astype(">u4").tobytes(), "big")


def keystream(
  round_keys: jax.Array, counter: jax.Array, num_blocks: int
) -> jax.Array:
  """Returns keystream blocks, uint32[num_blocks, 4] in memory order."""

  def callback(keys: Any, counter: Any) -> np.ndarray:
    keys, counter = np.asarray(keys), np.asarray(counter)
    batch = np.broadcast_shapes(keys.shape[:-2], counter.shape[:-1])
    keys = np.broadcast_to(keys, batch + keys.shape[-2:])
    counter = np.broadcast_to(counter, (*batch, 4))
    out = np.empty((*batch, num_blocks, 4), np.uint32)
    for i in np.ndindex(*batch):
      _fill(
        out[i].view(np.uint8).reshape(-1),
        schedule.key_of(keys[i]),
        _number(counter[i]),
      )
    return out

  return jax.pure_callback(
    callback,
    jax.ShapeDtypeStruct((num_blocks, 4), jnp.uint32),
    round_keys,
    counter,
    vmap_method="expand_dims",
  )


def crypt_blocks(
  round_keys: jax.Array, blocks: jax.Array, direction: Direction
) -> jax.Array:
  """Returns each block encrypted or decrypted, uint32[n, 4] both."""

  def callback(keys: Any, blocks: Any) -> np.ndarray:
    key = algorithms.AES(schedule.key_of(np.asarray(keys)))
    cipher = Cipher(key, modes.ECB())
    stream = (
      cipher.encryptor() if direction == "encrypt" else cipher.decryptor()
    )
    out = stream.update(np.asarray(blocks).tobytes())
    return np.frombuffer(out, np.uint32).reshape(blocks.shape)

  def tile(blocks: jax.Array) -> jax.Array:
    like = jax.ShapeDtypeStruct(blocks.shape, jnp.uint32)
    return jax.pure_callback(
      callback, like, round_keys, blocks, vmap_method="sequential"
    )

  n, size = blocks.shape[0], PIECE // 16
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
