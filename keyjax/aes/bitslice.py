"""Bit-sliced AES rounds on uint32 lanes.

A group of 32 blocks is one lane: plane i of a byte of the state is a uint32
whose bit j is bit i of that byte in block j. A state is 8 such planes, each
uint32[4, 4, lanes]: rows of the AES state (the last one first, as bytes lie in
a little-endian word), columns, lanes. Gates are AND and XOR of whole planes,
ShiftRows and MixColumns are static slices, and no index depends on data.

The rounds are a loop: unrolled, XLA does not finish compiling them.
"""

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.aes import sbox

_SWAPS = (
  (16, 0x0000FFFF),
  (8, 0x00FF00FF),
  (4, 0x0F0F0F0F),
  (2, 0x33333333),
  (1, 0x55555555),
)


def transpose_bits(x: jax.Array) -> jax.Array:
  """Returns y with bit j of `y[i]` equal to bit i of `x[j]`; an involution.

  Args:
    x: uint32[32, ...], transposed as 32 x 32 bits at each trailing index.

  Returns:
    uint32[32, ...].
  """
  shape = x.shape
  for s, mask in _SWAPS:
    x = x.reshape(16 // s, 2, s, *shape[1:])
    a, b = x[:, 0], x[:, 1]
    t = ((a >> np.uint32(s)) ^ b) & np.uint32(mask)
    x = jnp.stack([a ^ (t << np.uint32(s)), b ^ t], axis=1).reshape(shape)
  return x


def masks(round_keys: jax.Array) -> jax.Array:
  """Returns round keys as planes of zeros and ones, with the S-box's 0x63.

  Args:
    round_keys: uint32[rounds + 1, 4].

  Returns:
    uint32[rounds + 1, 8, 4, 4, 1], each word all zeros or all ones.
  """
  flipped = round_keys.at[1:].set(round_keys[1:] ^ np.uint32(0x63636363))
  shift = np.arange(32, dtype=np.uint32).reshape(4, 8).T[None, :, :, None]
  bits = (flipped[:, None, None, :] >> shift) & np.uint32(1)
  return (np.uint32(0) - bits)[..., None]


def _shift_rows(x: jax.Array) -> jax.Array:
  return jnp.stack([jnp.roll(x[r], r - 3, axis=0) for r in range(4)])


def _mix_columns(q: list[jax.Array]) -> list[jax.Array]:
  one = [jnp.roll(x, 1, axis=0) for x in q]
  two = [x ^ y for x, y in zip(q, one, strict=True)]
  rest = [y ^ jnp.roll(t, 2, axis=0) for y, t in zip(one, two, strict=True)]
  doubled = [two[7], *two[:7]]
  for i in (1, 3, 4):
    doubled[i] = doubled[i] ^ two[7]
  return [d ^ r for d, r in zip(doubled, rest, strict=True)]


def encrypt_planes(masks: jax.Array, state: jax.Array) -> jax.Array:
  """Returns the state after all rounds, uint32[8, 4, 4, lanes] both."""

  def sub_shift(state: jax.Array) -> list[jax.Array]:
    return [_shift_rows(x) for x in sbox.forward(tuple(state))]  # type: ignore[arg-type]

  def body(state: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
    return jnp.stack(_mix_columns(sub_shift(state))) ^ key, None

  state, _ = jax.lax.scan(body, state ^ masks[0], masks[1:-1])
  return jnp.stack(sub_shift(state)) ^ masks[-1]


def to_planes(words: jax.Array) -> jax.Array:
  """Returns the planes of uint32[32, 4, lanes] blocks in big-endian words."""
  lanes = words.shape[-1]
  planes = transpose_bits(words).reshape(4, 8, 4, lanes)
  return planes.transpose(1, 0, 2, 3)


def from_planes(planes: jax.Array) -> jax.Array:
  """Returns uint32[32, 4, lanes]: inverse of `to_planes`."""
  words = planes.transpose(1, 0, 2, 3).reshape(32, 4, planes.shape[-1])
  return transpose_bits(words)
