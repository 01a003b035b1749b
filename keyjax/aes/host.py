"""AES by OpenSSL on the host, also from inside `jit` on a CPU.

Each function here is a custom call (`ffi`) that reads and writes XLA's own
memory: there are no copies and no limit on sizes. Since release 50
`cryptography` releases Python's lock while it encrypts, so that the devices
into which a CPU is split work in parallel; with older releases they take turns.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from keyjax.aes import ffi, schedule

Impl = Literal["auto", "host", "device"]
Direction = Literal["encrypt", "decrypt"]
_Arrays = list[np.ndarray]

# OpenSSL is fastest when source and target stay in the cache of a core.
PIECE = 1 << 17
_ZEROS = memoryview(bytes(PIECE))


def choose(
  impl: Impl,
  host: Callable[..., Any],
  device: Callable[..., Any],
  *args: Any,
) -> Any:
  """Call `host(*args)` on a CPU and `device(*args)` elsewhere.

  Args:
    impl: "auto", or "host" or "device" to use that one everywhere.
    host: Function of arrays that calls OpenSSL.
    device: The same function, bit-sliced.
    *args: Arrays.

  Raises:
    ValueError: If `impl` is none of the three.
  """
  if impl == "auto":
    return jax.lax.platform_dependent(*args, cpu=host, default=device)
  if impl not in ("host", "device"):
    raise ValueError(f'impl must be "auto", "host" or "device", got {impl!r}')
  return host(*args) if impl == "host" else device(*args)


def octets(x: np.ndarray) -> memoryview:
  """Return the bytes of a contiguous array, without a copy."""
  return x.reshape(-1).view(np.uint8).data


def _ctr(round_keys: np.ndarray, counter: np.ndarray) -> Any:
  key = algorithms.AES(schedule.key_of(round_keys))
  return Cipher(key, modes.CTR(counter.astype(">u4").tobytes())).encryptor()


def _fill(args: _Arrays, results: _Arrays) -> None:
  """Write a keystream in memory order."""
  stream = _ctr(*args)
  out = octets(results[0])
  for i in range(0, len(out), PIECE):
    piece = out[i : i + PIECE]
    stream.update_into(_ZEROS[: len(piece)], piece)


def _fill_swapped(args: _Arrays, results: _Arrays) -> None:
  """Write a keystream as big-endian words, swapped while in cache."""
  stream = _ctr(*args)
  out = results[0].reshape(-1)
  scratch = np.empty(min(PIECE // 4, out.size), ">u4")
  view = octets(scratch.view(np.uint32))
  for i in range(0, out.size, PIECE // 4):
    piece = out[i : i + PIECE // 4]
    stream.update_into(_ZEROS[: piece.nbytes], view[: piece.nbytes])
    np.copyto(piece, scratch[: piece.size])


def _xor(args: _Arrays, results: _Arrays) -> None:
  """Write leaves XOR a keystream; each leaf starts at a new block."""
  stream = _ctr(*args[:2])
  for x, out in zip(args[2:], results, strict=True):
    stream.update_into(octets(x), octets(out))
    stream.update(bytes(-x.nbytes % 16))


def _ecb(direction: Direction, args: _Arrays, results: _Arrays) -> None:
  cipher = Cipher(algorithms.AES(schedule.key_of(args[0])), modes.ECB())
  stream = cipher.encryptor() if direction == "encrypt" else cipher.decryptor()
  data = octets(args[1])
  out = octets(results[0])
  scratch = memoryview(bytearray(min(PIECE, len(data)) + 15))
  for i in range(0, len(data), PIECE):
    piece = data[i : i + PIECE]
    stream.update_into(piece, scratch[: len(piece) + 15])
    out[i : i + PIECE] = scratch[: len(piece)]


def fill_sealed(args: _Arrays, results: _Arrays) -> None:
  """Write the ciphertext and the tag of GCM."""
  keys, nonce, data, aad = args
  mode = modes.GCM(nonce.tobytes())
  stream = Cipher(algorithms.AES(schedule.key_of(keys)), mode).encryptor()
  stream.authenticate_additional_data(octets(aad))
  stream.update_into(octets(data), octets(results[0]))
  stream.finalize()
  results[1][:] = np.frombuffer(stream.tag, np.uint8)


def fill_opened(args: _Arrays, results: _Arrays) -> None:
  """Write the plaintext and the flag of GCM; zeros if not authentic."""
  keys, nonce, data, tag, aad = args
  mode = modes.GCM(nonce.tobytes(), tag.tobytes(), min_tag_length=4)
  stream = Cipher(algorithms.AES(schedule.key_of(keys)), mode).decryptor()
  stream.authenticate_additional_data(octets(aad))
  stream.update_into(octets(data), octets(results[0]))
  try:
    stream.finalize()
    results[1][...] = True
  except InvalidTag:
    results[0][...] = 0
    results[1][...] = False


ffi.register("keyjax_keystream", _fill)
ffi.register("keyjax_keystream_swapped", _fill_swapped)
ffi.register("keyjax_xor", _xor)
ffi.register("keyjax_ecb_encrypt", functools.partial(_ecb, "encrypt"))
ffi.register("keyjax_ecb_decrypt", functools.partial(_ecb, "decrypt"))
ffi.register("keyjax_gcm_seal", fill_sealed)
ffi.register("keyjax_gcm_open", fill_opened)


def like(x: jax.Array) -> jax.ShapeDtypeStruct:
  """Return the shape and dtype of an array."""
  return jax.ShapeDtypeStruct(x.shape, x.dtype)


def keystream(
  num_blocks: int, swapped: bool, round_keys: jax.Array, counter: jax.Array
) -> jax.Array:
  """Return keystream blocks, uint32[num_blocks, 4].

  Args:
    num_blocks: Number of blocks.
    swapped: True for big-endian words, false for memory order.
    round_keys: uint32[rounds + 1, 4].
    counter: uint32[4], big-endian words.
  """
  name = "keyjax_keystream_swapped" if swapped else "keyjax_keystream"
  out = jax.ShapeDtypeStruct((num_blocks, 4), jnp.uint32)
  return ffi.call(name, [out], round_keys, counter)[0]


def xor(
  round_keys: jax.Array, counter: jax.Array, *leaves: jax.Array
) -> tuple[jax.Array, ...]:
  """Return leaves XOR the keystream; each leaf starts at a new block."""
  shapes = [like(x) for x in leaves]
  return ffi.call("keyjax_xor", shapes, round_keys, counter, *leaves)


def crypt_blocks(
  round_keys: jax.Array, blocks: jax.Array, direction: Direction
) -> jax.Array:
  """Encrypt or decrypt blocks, uint32[n, 4]."""
  name = f"keyjax_ecb_{direction}"
  return ffi.call(name, [like(blocks)], round_keys, blocks)[0]


def gcm_fits(nonce: int) -> bool:
  """Return whether OpenSSL accepts a nonce of this many bytes."""
  return 8 <= nonce <= 128


def gcm_seal(
  round_keys: jax.Array, nonce: jax.Array, data: jax.Array, aad: jax.Array
) -> tuple[jax.Array, ...]:
  """Return the ciphertext uint8[n] and the tag uint8[16]."""
  results = [like(data), jax.ShapeDtypeStruct((16,), jnp.uint8)]
  return ffi.call("keyjax_gcm_seal", results, round_keys, nonce, data, aad)


def gcm_open(
  round_keys: jax.Array,
  nonce: jax.Array,
  ciphertext: jax.Array,
  tag: jax.Array,
  aad: jax.Array,
) -> tuple[jax.Array, ...]:
  """Return the plaintext uint8[n], or zeros, and the flag of authenticity."""
  results = [like(ciphertext), jax.ShapeDtypeStruct((), jnp.bool_)]
  args = (round_keys, nonce, ciphertext, tag, aad)
  return ffi.call("keyjax_gcm_open", results, *args)
