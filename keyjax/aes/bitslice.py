"""Bit-sliced AES on uint32 lanes, with AND, XOR and NOT and without tables.

A lane is a group of 32 blocks. Plane i holds bit i of every byte of the state:
uint32[16, lanes], where row 4 * r + c is the byte at row r and column c of the
AES state, and bit j of a word belongs to block j of its lane. A state is the
tuple of its 8 planes. Gates work on whole planes; ShiftRows and MixColumns
permute the rows of a plane, in the same way for all data.

The rounds are a loop, because XLA does not finish compiling them unrolled.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import xla_metadata

from keyjax.aes import sbox, words

State = tuple[jax.Array, ...]

SWAPS = (
  (16, 0x0000FFFF),
  (8, 0x00FF00FF),
  (4, 0x0F0F0F0F),
  (2, 0x33333333),
  (1, 0x55555555),
)
_ROW, _COLUMN = np.divmod(np.arange(16), 4)


def transpose_bits(x: jax.Array) -> jax.Array:
  """Transpose bits: bit j of `y[i]` is bit i of `x[j]`. An involution.

  Args:
    x: uint32[32, ...], transposed as 32 x 32 bits at each trailing index.

  Returns:
    uint32[32, ...].
  """
  shape = x.shape
  for s, mask in SWAPS:
    x = x.reshape(16 // s, 2, s, *shape[1:])  # [32, ...] -> pairs of s rows
    a, b = x[:, 0], x[:, 1]
    t = ((a >> np.uint32(s)) ^ b) & np.uint32(mask)
    x = jnp.stack([a ^ (t << np.uint32(s)), b ^ t], axis=1).reshape(shape)
  return x


def key_words(round_keys: jax.Array) -> jax.Array:
  """Return round keys in memory order, with the constant 0x63 of the S-box."""
  x = words.swap(round_keys)
  return x.at[1:].set(x[1:] ^ np.uint32(0x63636363))


def masks(round_keys: jax.Array) -> jax.Array:
  """Return the planes of `key_words`.

  Args:
    round_keys: uint32[rounds + 1, 4], big-endian words.

  Returns:
    uint32[rounds + 1, 8, 16, 1], each word all zeros or all ones.
  """
  x = key_words(round_keys)
  # Bit i of byte r of word c: [rounds + 1, 8, 4, 4] -> [rounds + 1, 8, 16, 1].
  shift = np.arange(32, dtype=np.uint32).reshape(4, 8).T[None, :, :, None]
  bits = (x[:, None, None, :] >> shift) & np.uint32(1)
  return (np.uint32(0) - bits).reshape(-1, 8, 16, 1)


def to_planes(blocks: jax.Array) -> State:
  """Return the planes of uint32[32, 4, lanes], words in memory order."""
  lanes = blocks.shape[-1]
  # [32 bits, 4 words, lanes] -> [4 rows, 8 bits, 4 columns, lanes]
  planes = transpose_bits(blocks).reshape(4, 8, 4, lanes)
  return tuple(planes[:, i].reshape(16, lanes) for i in range(8))


def from_planes(state: State) -> jax.Array:
  """Return uint32[32, 4, lanes], the inverse of `to_planes`."""
  lanes = state[0].shape[-1]
  # 8 times [16, lanes] -> [4 rows, 8 bits, 4 columns, lanes]
  planes = jnp.stack([x.reshape(4, 4, lanes) for x in state], axis=1)
  return transpose_bits(planes.reshape(32, 4, lanes))


def counter_planes(counter: jax.Array, lanes: int) -> State:
  """Return the planes of the counter blocks of a tile.

  Blocks of a tile differ in their last word and in one carry out of it, so
  only this word is transposed.

  Args:
    counter: uint32[4], the first counter block of the tile, big-endian words.
    lanes: Number of lanes; block j * lanes + l is bit j of lane l.
  """
  index = jnp.arange(32 * lanes, dtype=jnp.uint32).reshape(32, lanes)
  last = counter[3] + index
  places = np.arange(32, dtype=np.uint32)[:, None]
  carry = (last < counter[3]).astype(jnp.uint32) << places
  carry = jnp.sum(carry, axis=0, dtype=jnp.uint32)
  one = jnp.uint32(1)
  before = counter[:3]
  after = words.add(counter, ~counter[3])
  after = words.add(after, one)[:3]
  spread = [
    (np.uint32(0) - ((x[None] >> places) & one))[..., None]
    for x in (before, before ^ after)
  ]
  high = spread[0] ^ (spread[1] & carry[None, None])
  bits = jnp.concatenate([high, transpose_bits(last)[:, None]], axis=1)
  bits = bits.reshape(4, 8, 4, lanes)[::-1]  # Big-endian bytes come first.
  return tuple(bits[:, i].reshape(16, lanes) for i in range(8))


def _shifted(sign: int) -> np.ndarray:
  """Return the source row of each row under ShiftRows or its inverse."""
  return 4 * _ROW + (_COLUMN + sign * _ROW) % 4


def _take_slices(x: jax.Array, rows: np.ndarray) -> jax.Array:
  return jnp.concatenate([x[i : i + 1] for i in rows])


def _take_index(x: jax.Array, rows: np.ndarray) -> jax.Array:
  return x.at[rows].get(mode="promise_in_bounds")


def _opaque(fn: Callable[..., Any]) -> Callable[..., Any]:
  """Wrap `fn` in a call that XLA neither inlines nor fuses across."""
  called = jax.jit(fn)

  def call(*args: Any) -> Any:
    with xla_metadata.set_xla_metadata(inlineable="false"):
      return called(*args)

  return call


def mixed(rolled: list[State], key: jax.Array) -> State:
  """Return MixColumns plus the round key, from the state rolled by rows."""
  a, b, c, d = rolled
  two = [x ^ y for x, y in zip(a, b, strict=True)]
  two = [two[7], *two[:7]]
  for i in (1, 3, 4):
    two[i] = two[i] ^ two[0]
  return tuple(
    t ^ x ^ y ^ z ^ k for t, x, y, z, k in zip(two, b, c, d, key, strict=True)
  )


def _mix_rows(key: jax.Array, q: State, rows: np.ndarray) -> State:
  """Return `mixed` of planes whose rows are permuted first."""
  rows = np.concatenate([rows, rows])
  rolled = [
    tuple(_take_slices(x, rows[4 * r : 4 * r + 16]) for x in q)
    for r in range(4)
  ]
  return mixed(rolled, key)


def _mix_slices(key: jax.Array, q: State, rows: np.ndarray) -> State:
  """Return the same through longer planes, whose slices are contiguous."""
  rows = np.concatenate([rows, rows])[:28]

  def mix(key: jax.Array, *longer: jax.Array) -> State:
    rolled = [tuple(x[4 * r : 4 * r + 16] for x in longer) for r in range(4)]
    return mixed(rolled, key)

  longer = _opaque(lambda *q: tuple(_take_index(x, rows) for x in q))(*q)
  return _opaque(mix)(key, *longer)


class _Form(NamedTuple):
  """The rounds in the form that suits a compiler.

  Attributes:
    take: Function that permutes the rows of a plane.
    mix: MixColumns plus the round key, of planes with permuted rows.
    stage: Decorator that makes a function a unit of compilation, or identity.
    sub: S-box.
  """

  take: Callable[[jax.Array, np.ndarray], jax.Array]
  mix: Callable[[jax.Array, State, np.ndarray], State]
  stage: Callable[[Callable[..., Any]], Callable[..., Any]]
  sub: Callable[[State], State]


# XLA's CPU backend makes one kernel for each plane and repeats in it everything
# that the plane depends on. Opaque stages reduce the repetition.
_staged = sbox.staged(_opaque)


def _sub_flat(q: State) -> State:
  """Return the S-box of flattened planes, in one loop for all rows."""
  shape = q[0].shape
  return tuple(
    x.reshape(shape) for x in _staged(tuple(x.reshape(-1) for x in q))
  )


_CPU = _Form(_take_index, _mix_slices, _opaque, _sub_flat)
_ACCELERATOR = _Form(_take_slices, _mix_rows, lambda fn: fn, sbox.forward)


# Inlined, so that the program is the same; traced once for each shape and form,
# since a trace of the circuit takes 0.2 s.
_once = functools.partial(jax.jit, static_argnames="form", inline=True)


@_once
def _encrypt(masks: jax.Array, state: State, form: _Form) -> State:
  rows = _shifted(1)

  def body(q: State, key: jax.Array) -> tuple[State, None]:
    return form.mix(key, form.sub(q), rows), None

  first = tuple(x ^ masks[0, i] for i, x in enumerate(state))
  q, _ = jax.lax.scan(body, first, masks[1:-1])
  return tuple(
    form.take(x, rows) ^ masks[-1, i] for i, x in enumerate(form.sub(q))
  )


@_once
def _decrypt(masks: jax.Array, state: State, form: _Form) -> State:
  zero = jnp.zeros((8, 1, 1), jnp.uint32)

  def enter(*q: jax.Array) -> State:
    return sbox.unaffine(tuple(form.take(x, _shifted(-1)) for x in q))

  def unsub(q: State) -> State:
    # Inversion in GF(2^8) is its own inverse, so the inverse S-box is the
    # forward S-box between two inverse linear maps.
    return sbox.unaffine(form.sub(form.stage(enter)(*q)))

  def body(q: State, key: jax.Array) -> tuple[State, None]:
    q = tuple(x ^ k for x, k in zip(q, key, strict=True))
    for _ in range(3):  # MixColumns has order 4: its cube is its inverse.
      q = form.mix(zero, q, np.arange(16))
    return unsub(q), None

  first = unsub(tuple(x ^ masks[-1, i] for i, x in enumerate(state)))
  q, _ = jax.lax.scan(body, first, masks[1:-1], reverse=True)
  return tuple(x ^ masks[0, i] for i, x in enumerate(q))


def _on_platform(
  rounds: Callable[..., State],
  masks: jax.Array,
  state: State,
) -> State:
  return jax.lax.platform_dependent(
    masks,
    *state,
    cpu=lambda masks, *state: rounds(masks, state, form=_CPU),
    default=lambda masks, *state: rounds(masks, state, form=_ACCELERATOR),
  )


def accelerator_rounds(masks: jax.Array, state: State) -> State:
  """Encrypt in the form for accelerators; for tests and cost estimates."""
  return _encrypt(masks, state, form=_ACCELERATOR)


def encrypt_planes(masks: jax.Array, state: State) -> State:
  """Encrypt the planes of a state.

  Args:
    masks: uint32[rounds + 1, 8, 16, 1], from `masks`.
    state: 8 planes, uint32[16, lanes].
  """
  return _on_platform(_encrypt, masks, state)


def decrypt_planes(masks: jax.Array, state: State) -> State:
  """Decrypt the planes of a state, the inverse of `encrypt_planes`."""
  return _on_platform(_decrypt, masks, state)
