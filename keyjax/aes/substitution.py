"""AES's S-box on every byte of an array of words, by a table or a circuit."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import meshes
from keyjax.aes import sbox


def _table() -> np.ndarray:
  """Return the AES S-box as uint8[256], from the circuit in `sbox`."""
  octets = np.arange(256, dtype=np.uint8)
  planes = sbox.forward(tuple((octets >> i) & 1 for i in range(8)))  # type: ignore[arg-type]
  out = sum(plane.astype(np.uint8) << i for i, plane in enumerate(planes))
  return out.astype(np.uint8) ^ np.uint8(0x63)


SBOX = _table()
INV_SBOX = np.argsort(SBOX).astype(np.uint8)


@functools.partial(jax.jit, static_argnames="inverse")
def sub_bytes(words: jax.Array, inverse: bool) -> jax.Array:
  """Apply the S-box or its inverse to every byte of unsigned words.

  A CPU looks it up, which compiles faster; accelerators compute it, because
  their gathers take thousands of times as long.
  """
  return jax.lax.platform_dependent(
    words,
    cpu=lambda x: _look_up(x, INV_SBOX if inverse else SBOX),
    default=inv_sub_bytes_circuit if inverse else sub_bytes_circuit,
  )


def _look_up(words: jax.Array, table: np.ndarray) -> jax.Array:
  octets = jax.lax.bitcast_convert_type(words, jnp.uint8)  # [..] -> [.., bytes]

  def get(x: jax.Array) -> jax.Array:
    return jnp.asarray(table).at[x].get(mode="promise_in_bounds")

  out = meshes.as_auto(get, octets, octets)
  return jax.lax.bitcast_convert_type(out, words.dtype)


def sub_bytes_circuit(words: jax.Array) -> jax.Array:
  """Compute the S-box of every byte of unsigned words, without a table."""
  return _by_planes(words, sbox.forward) ^ _each_byte(words, 0x63)


def inv_sub_bytes_circuit(words: jax.Array) -> jax.Array:
  """Compute the inverse S-box of every byte, without a table."""
  # The S-box is F(x) ^ 0x63 with F(x) = A(1/x); F is inverted by A'(F(A'(x))).
  return _by_planes(
    words ^ _each_byte(words, 0x63),
    lambda q: sbox.unaffine(sbox.forward(sbox.unaffine(q))),
  )


def _by_planes(
  words: jax.Array, circuit: Callable[[sbox.Planes], sbox.Planes]
) -> jax.Array:
  """Apply a circuit to the bits of each byte, at their position in the word."""
  ones = _each_byte(words, 1)
  bit = words.dtype.type
  planes = tuple((words >> bit(i)) & ones for i in range(8))
  moved = [plane << bit(i) for i, plane in enumerate(circuit(planes))]
  return functools.reduce(jnp.bitwise_or, moved)


def _each_byte(words: jax.Array, value: int) -> Any:
  """Return a word in which every byte is `value`."""
  dtype = words.dtype
  return dtype.type(int.from_bytes(bytes([value]) * dtype.itemsize, "big"))
