"""The AES key schedule, run forward and backward from any place in it.

Nk consecutive words determine all others: the schedule is a bijection of its
state. Words have absolute indices as in FIPS 197, 5.2: the key is
w[0 .. Nk-1], and Deep-Lock's stream begins at w[Nk].
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.aes import substitution
from keyjax.schemes import deep_lock

_BLOCK = 64  # Groups that a compiled iteration goes back.


def _doublings() -> np.ndarray:
  """Return 2^0, 2^1, ... in GF(2^8), of period 51."""
  powers = [1]
  while len(powers) < 51:
    powers.append((powers[-1] << 1) ^ (0x11B * (powers[-1] >> 7)))
  return np.array(powers, np.uint32)


_RCON = _doublings() << np.uint32(24)


def rcon(group: np.ndarray | int) -> np.ndarray:
  """Return the round constant of group k = i / Nk, as a word."""
  return _RCON[(np.asarray(group) - 1) % 51]


def sub_word(words: np.ndarray) -> np.ndarray:
  """Apply the S-box to every byte."""
  return substitution.SBOX[np.ascontiguousarray(words).view(np.uint8)].view(
    np.uint32
  )


def _mix(last: np.ndarray, index: np.ndarray, nk: int) -> np.ndarray:
  """Return w[i] XOR w[i - Nk], a function of w[i - 1]."""
  kind = int(index[0]) % nk
  if kind == 0:
    turned = (last << np.uint32(8)) | (last >> np.uint32(24))
    return sub_word(turned) ^ rcon(index // nk)
  return sub_word(last) if nk == 8 and kind == 4 else last


def after(window: list[np.ndarray], index: np.ndarray) -> np.ndarray:
  """Return w[i] from w[i - Nk .. i - 1].

  Args:
    window: Nk arrays uint32[m], one element for each candidate.
    index: int64[m], i of each candidate, all equal modulo Nk.
  """
  return window[0] ^ _mix(window[-1], index, len(window))


def before(window: list[np.ndarray], index: np.ndarray) -> np.ndarray:
  """Return w[i - 1] from w[i .. i + Nk - 1], as `after`."""
  nk = len(window)
  return window[-1] ^ _mix(window[-2], index + nk - 1, nk)


def master(window: np.ndarray, index: int) -> np.ndarray:
  """Return the key, w[0 .. Nk - 1], from w[i .. i + Nk - 1].

  Args:
    window: uint32[Nk].
    index: Index i of its first word.

  Example:
    >>> words = np.array(  # FIPS-197, A.1, the last round key
    ...   [0xd014f9a8, 0xc9ee2589, 0xe13f0cc8, 0xb6630ca6], np.uint32)
    >>> [hex(w) for w in master(words, 40)]
    ['0x2b7e1516', '0x28aed2a6', '0xabf71588', '0x9cf4f3c']
  """
  nk = len(window)
  state = [np.array([w], np.uint32) for w in window]
  at = np.array([index])
  # Back to the first word of a group, and to a multiple of `_BLOCK` groups.
  while at[0] % nk or (at[0] // nk) % _BLOCK:
    state = [before(state, at), *state[:-1]]
    at = at - 1
  words = jnp.asarray(np.concatenate(state))
  if at[0]:
    groups = int(at[0]) // nk
    first = jnp.uint32(rcon(groups) >> np.uint32(24))
    words = _back(words, first, jnp.int32(groups // _BLOCK))
  return np.asarray(words)


@jax.jit
def _back(
  words: jax.Array, constant: jax.Array, blocks: jax.Array
) -> jax.Array:
  """Run whole groups backwards, `_BLOCK` of them in an iteration."""
  step = functools.partial(_back_group, words.shape[0])

  def iteration(_: jax.Array, carry: tuple) -> tuple:
    return jax.lax.fori_loop(0, _BLOCK, step, carry, unroll=8)

  carry = (tuple(words), constant)
  return jnp.stack(jax.lax.fori_loop(0, blocks, iteration, carry)[0])


def _back_group(nk: int, _: jax.Array, carry: tuple) -> tuple:
  """Undo one group of the schedule; the constant halves in GF(2^8)."""
  words, constant = carry
  before_group = list(words)
  for i in range(nk - 1, 0, -1):
    last = words[i - 1]
    before_group[i] = words[i] ^ (
      deep_lock.sub_word(last) if nk == 8 and i == 4 else last
    )
  last = before_group[-1]
  turned = (last << np.uint32(8)) | (last >> np.uint32(24))
  before_group[0] = (
    words[0] ^ deep_lock.sub_word(turned) ^ (constant << np.uint32(24))
  )
  odd = constant & np.uint32(1)
  constant = (constant ^ (odd * np.uint32(0x11B))) >> np.uint32(1)
  return tuple(before_group), constant
