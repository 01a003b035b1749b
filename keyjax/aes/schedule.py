"""The key schedule of AES (FIPS 197, section 5.2), on the host and traced.

A schedule is stored as uint32[rounds + 1, 4], big-endian words: w[0] ..
w[4 * rounds + 3] of FIPS 197. It is a chain and thus the only part that does
not run in parallel; it takes microseconds a key.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.aes import sbox
from keyjax.arguments import describe

ROUNDS = {16: 10, 24: 12, 32: 14}
_RCON = np.array([1, 2, 4, 8, 16, 32, 64, 128, 27, 54], np.uint32) << 24


def expand_key(key: bytes | jax.Array | np.ndarray) -> jax.Array:
  """Return the round keys of an AES key.

  Args:
    key: 16, 24 or 32 bytes, or uint8[16 | 24 | 32], which may be traced.

  Returns:
    uint32[rounds + 1, 4], the round keys as big-endian words.

  Raises:
    ValueError: If the key has another length.
    TypeError: If the key is an array with a dtype other than uint8.

  References:
    FIPS 197, "Advanced Encryption Standard", section 5.2.

  Example:
    >>> key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    >>> hex(expand_key(key)[10, 3])
    '0xb6630ca6'
  """
  if isinstance(key, bytes | bytearray):
    return jnp.asarray(_expand_host(_checked(np.frombuffer(key, np.uint8))))
  if isinstance(key, np.ndarray):
    return jnp.asarray(_expand_host(_checked(key)))
  if not isinstance(key, jax.Array):  # JAX would quote it.
    raise TypeError(f"an AES key is bytes or uint8, got {describe(key)}")
  return _expand_traced(_checked(key))


def key_of(round_keys: np.ndarray) -> bytes:
  """Return the key at the start of a schedule, on the host."""
  size = {r + 1: n for n, r in ROUNDS.items()}[round_keys.shape[0]]
  return round_keys.astype(">u4").tobytes()[:size]


def check_expanded(round_keys: Any) -> None:
  """Raise a ValueError if round keys are not those of any AES key.

  Nothing else would show that some of them were altered. Traced round keys
  are not checked: the cipher uses them as they are, on every platform.

  Example:
    >>> check_expanded(expand_key(bytes(16)))
    >>> check_expanded(expand_key(bytes(16)).at[10, 3].add(1))
    Traceback (most recent call last):
    ...
    ValueError: these round keys are not the schedule of an AES key: they were \
altered
  """
  if isinstance(round_keys, jax.core.Tracer):
    return
  words = np.asarray(round_keys)
  key = np.frombuffer(key_of(words), np.uint8)
  if not np.array_equal(_expand_host(key), words):
    raise ValueError(
      "these round keys are not the schedule of an AES key: they were altered"
    )


def _checked(key: Any) -> Any:
  if key.dtype != np.uint8:
    raise TypeError(f"an AES key must have dtype uint8, got {key.dtype}")
  if key.ndim != 1 or key.shape[0] not in ROUNDS:
    raise ValueError(
      f"an AES key has 16, 24 or 32 bytes, got shape {key.shape}"
    )
  return key


def _words(key: Any) -> Any:
  b = key.astype(np.uint32).reshape(-1, 4)  # [4 * Nk] -> [Nk, 4 bytes]
  return b[:, 0] << 24 | b[:, 1] << 16 | b[:, 2] << 8 | b[:, 3]


def _sub(word: Any) -> Any:
  """Apply the S-box to each byte of a word: every 8th bit is a lane."""
  ones = np.uint32(0x01010101)
  q = tuple((word >> np.uint32(i)) & ones for i in range(8))
  out: Any = np.uint32(0x63636363)
  for i, plane in enumerate(sbox.forward(q)):
    out = out ^ (plane << np.uint32(i))
  return out


def _rotate(word: Any) -> Any:
  return (word << np.uint32(8)) | (word >> np.uint32(24))


def _step(words: list[Any], rcon: Any) -> list[Any]:
  """Return the next Nk words of the schedule from the last Nk."""
  out = [words[0] ^ _sub(_rotate(words[-1])) ^ rcon]
  for i, word in enumerate(words[1:], 1):
    last = _sub(out[-1]) if len(words) == 8 and i == 4 else out[-1]
    out.append(word ^ last)
  return out


def _expand_host(key: np.ndarray) -> np.ndarray:
  size = 4 * (ROUNDS[key.shape[0]] + 1)
  words = list(_words(key))
  schedule = list(words)
  for rcon in _RCON:
    words = _step(words, rcon)
    schedule += words
  return np.array(schedule[:size], np.uint32).reshape(-1, 4)


def _expand_traced(key: jax.Array) -> jax.Array:
  rounds = ROUNDS[key.shape[0]]
  first = _words(key)
  nk = first.shape[0]
  steps = -(-4 * (rounds + 1) // nk) - 1

  def body(words: jax.Array, rcon: jax.Array) -> tuple[jax.Array, jax.Array]:
    out = jnp.stack(_step([words[i] for i in range(nk)], rcon))
    return out, out

  _, rest = jax.lax.scan(body, first, jnp.asarray(_RCON[:steps]))
  words = jnp.concatenate([first, rest.reshape(-1)])  # [steps, Nk] -> [words]
  return words[: 4 * (rounds + 1)].reshape(-1, 4)
