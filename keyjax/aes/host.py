"""AES by OpenSSL on the host, also from inside `jit` on a CPU.

A callback gets and gives NumPy arrays and never calls JAX: one that does can
wait for the thread it occupies. What enters a callback is small (round keys
and counters) except in `encrypt_blocks` and `decrypt_blocks`.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from keyjax.aes import schedule

Impl = Literal["auto", "host", "device"]

# OpenSSL is fastest when source and target stay in a core's cache.
PIECE = 1 << 16
_ZEROS = memoryview(bytes(PIECE))
_BLOCK_MODES = {"encrypt": "encryptor", "decrypt": "decryptor"}


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


def _over_batch(
  one: Callable[..., None], out: np.ndarray, args: list[Any], ranks: list[int]
) -> np.ndarray:
  """Calls `one(out[i], *args[i])` at each index of the leading axes."""
  arrays = [np.asarray(a) for a in args]
  batch = np.broadcast_shapes(
    *(a.shape[: a.ndim - r] for a, r in zip(arrays, ranks, strict=True))
  )
  result = np.empty(batch + out.shape, out.dtype)
  full = [
    np.broadcast_to(a, batch + a.shape[a.ndim - r :])
    for a, r in zip(arrays, ranks, strict=True)
  ]
  for i in np.ndindex(*batch):
    one(result[i], *(a[i] for a in full))
  return result


def keystream(
  round_keys: jax.Array, counter: jax.Array, num_blocks: int
) -> jax.Array:
  """Returns keystream blocks, uint32[num_blocks, 4] in memory order."""
  shape = (num_blocks, 4)

  def one(out: np.ndarray, keys: np.ndarray, counter: np.ndarray) -> None:
    _fill(
      out.view(np.uint8).reshape(-1), schedule.key_of(keys), _number(counter)
    )

  def callback(*args: Any) -> np.ndarray:
    return _over_batch(one, np.empty(shape, np.uint32), list(args), [2, 1])

  return jax.pure_callback(
    callback,
    jax.ShapeDtypeStruct(shape, jnp.uint32),
    round_keys,
    counter,
    vmap_method="expand_dims",
  )


def crypt_blocks(
  round_keys: jax.Array,
  blocks: jax.Array,
  direction: Literal["encrypt", "decrypt"],
) -> jax.Array:
  """Returns each block encrypted or decrypted, uint32[n, 4] both."""

  def one(out: np.ndarray, keys: np.ndarray, blocks: np.ndarray) -> None:
    cipher = Cipher(algorithms.AES(schedule.key_of(keys)), modes.ECB())
    stream = getattr(cipher, _BLOCK_MODES[direction])()
    data = stream.update(np.ascontiguousarray(blocks).tobytes())
    out[...] = np.frombuffer(data, np.uint32).reshape(out.shape)

  def callback(*args: Any) -> np.ndarray:
    like = np.empty(blocks.shape, np.uint32)
    return _over_batch(one, like, list(args), [2, 2])

  return jax.pure_callback(
    callback,
    jax.ShapeDtypeStruct(blocks.shape, jnp.uint32),
    round_keys,
    blocks,
    vmap_method="expand_dims",
  )
