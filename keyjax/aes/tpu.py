"""AES as one TPU kernel that keeps the state on the chip through all rounds.

A tile is 8,192 blocks, 32 arrays of uint32[8, 128], written row by row. As
words, row s of array j is row 8 * j + s of the tile. As planes, array 8 * r + i
is bit i of the bytes of row r of the AES state, and bit j of an element belongs
to array j of the words. Four neighbours along an axis are the columns of a
block, in one of two orders. ShiftRows rotates the four; all else stays within
an element.

* Along lanes, a tile is in the order of memory: 32 blocks a row.
* Along sublanes, four rows are the four words of 128 blocks, which is how XLA
  stores uint32[n, 4] on a TPU.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.aes import bitslice, sbox, words

# Pallas is imported where it is used: it takes 0.2 s to load.

Arrays = Sequence[jax.Array]

# The axis of a tile along which the columns of a block follow each other.
_SUBLANES = 0
_LANES = 1
_TILE = (8, 128)
_TILE_ROWS = 256  # Rows of 128 words.
_TILE_BLOCKS = 32 * _TILE_ROWS


def _iota(axis: int) -> jax.Array:
  return jax.lax.broadcasted_iota(jnp.int32, _TILE, axis)


# Traced once, though a kernel calls it many times.
_sub = jax.jit(sbox.forward)


@jax.jit
def _transpose_bits(*x: jax.Array) -> Arrays:
  """Return `bitslice.transpose_bits` of 32 separate arrays."""
  y = list(x)
  for s, mask in bitslice.SWAPS:
    for i in range(32):
      if not i & s:
        a, b = y[i], y[i + s]
        t = ((a >> np.uint32(s)) ^ b) & np.uint32(mask)
        y[i], y[i + s] = a ^ (t << np.uint32(s)), b ^ t
  return y


def _shift_row(x: jax.Array, r: int, axis: int) -> jax.Array:
  """Rotate each group of four elements along an axis by r."""
  from jax.experimental.pallas import tpu as pltpu

  if r == 0:
    return x
  inside = pltpu.roll(x, _TILE[axis] - r, axis)
  around = pltpu.roll(x, 4 - r, axis)
  return jnp.where((_iota(axis) & 3) < 4 - r, inside, around)


@functools.partial(jax.jit, static_argnums=0)
def _sub_and_shift(axis: int, *planes: jax.Array) -> Arrays:
  """Return SubBytes without its constant, and ShiftRows."""
  rows = [_sub(planes[8 * r : 8 * r + 8]) for r in range(4)]
  return [_shift_row(x, r, axis) for r, row in enumerate(rows) for x in row]


@jax.jit
def _mix(*planes: jax.Array) -> Arrays:
  """Return MixColumns."""
  rows = [planes[8 * r : 8 * r + 8] for r in range(4)]
  zero: Any = 8 * [np.uint32(0)]
  return [
    x for r in range(4) for x in bitslice.mixed(rows[r:] + rows[:r], zero)
  ]


def _add(planes: Arrays, masks: Any, i: Any) -> Arrays:
  """Return AddRoundKey of round i."""
  return [x ^ masks[i, k] for k, x in enumerate(planes)]


def _encrypt(axis: int, keys: Any, masks: Any, planes: Arrays) -> Arrays:
  """Return the encrypted planes; `masks` is memory for planes of the keys."""
  rounds = masks.shape[0] - 1
  for k in range(32):
    masks[:, k] = np.uint32(0) - ((keys[...] >> np.uint32(k)) & np.uint32(1))

  def body(i: jax.Array, planes: Arrays) -> Arrays:
    return _add(_mix(*_sub_and_shift(axis, *planes)), masks, i)

  planes = jax.lax.fori_loop(1, rounds, body, _add(planes, masks, 0))
  return _add(_sub_and_shift(axis, *planes), masks, rounds)


def _swap(planes: Arrays) -> Arrays:
  """Return the planes of words with their bytes reversed."""
  return [x for r in (3, 2, 1, 0) for x in planes[8 * r : 8 * r + 8]]


@functools.partial(jax.jit, static_argnums=0)
def _counter_words(axis: int, first: jax.Array, table: jax.Array) -> Arrays:
  """Return the counter blocks of a tile, big-endian words."""
  sublane, lane = _iota(0), _iota(1)
  if axis == _LANES:
    position = 32 * sublane + (lane >> 2)
  else:
    position = 128 * (sublane >> 2) + lane
  before, after, last = table[0], table[1], table[2]
  out = []
  for j in range(32):
    index = (first + 256 * j + position).astype(jnp.uint32)
    low = last + index
    high = jnp.where(low < index, after, before)
    out.append(jnp.where((_iota(axis) & 3) == 3, low, high))
  return out


def _keystream_kernel(
  axis: int, swapped: bool, table: Any, keys: Any, stream: Any, masks: Any
) -> None:
  from jax.experimental import pallas as pl

  first = pl.program_id(0) * _TILE_BLOCKS
  planes = _transpose_bits(*_counter_words(axis, first, table[...]))
  planes = _encrypt(axis, keys, masks, _swap(planes))
  planes = _swap(planes) if swapped else planes
  for j, x in enumerate(_transpose_bits(*planes)):
    stream[8 * j : 8 * j + 8, :] = x


def _blocks_kernel(
  axis: int, keys: Any, blocks: Any, encrypted: Any, masks: Any
) -> None:
  planes = _transpose_bits(*(blocks[8 * j : 8 * j + 8, :] for j in range(32)))
  planes = _encrypt(axis, keys, masks, planes)
  for j, x in enumerate(_transpose_bits(*planes)):
    encrypted[8 * j : 8 * j + 8, :] = x


def _spread(axis: int, x: jax.Array) -> jax.Array:
  """Repeat blocks uint32[n, 4] along an axis, uint32[n, 8, 128]."""
  if axis == _LANES:
    x = jnp.tile(x, 32)[:, None]  # [n, 1, 128]
  else:
    x = jnp.tile(x, 2)[:, :, None]  # [n, 8, 1]
  return jnp.broadcast_to(x, (x.shape[0], *_TILE))


def _call(
  kernel: Callable[..., None],
  rows: int,
  whole: Arrays,
  tiled: Arrays,
  interpret: bool,
) -> jax.Array:
  """Run a kernel tile after tile.

  Args:
    kernel: Function of references to the inputs, the output and memory for the
      planes of the round keys.
    rows: Rows of the output.
    whole: Inputs that each tile reads whole, the round keys last.
    tiled: Inputs of as many rows as the output, uint32[rows, 128].
    interpret: True to interpret the kernel, on any platform.

  Returns:
    uint32[rows, 128].
  """
  from jax.experimental import pallas as pl
  from jax.experimental.pallas import tpu as pltpu

  # Inside `shard_map` the output varies along the axes of the mesh that any
  # input varies along.
  out_shape = jax.eval_shape(
    lambda *x: jnp.broadcast_to(sum(y.ravel()[0] for y in x), (rows, 128)),
    *whole,
    *tiled,
  )
  tile = pl.BlockSpec((_TILE_ROWS, 128), lambda i: (i, 0))
  fixed = [pl.BlockSpec(x.shape, lambda i: (0, 0, 0)) for x in whole]
  return pl.pallas_call(
    kernel,
    grid=(-(-rows // _TILE_ROWS),),
    in_specs=[*fixed, *(tile for _ in tiled)],
    out_specs=tile,
    out_shape=out_shape,
    scratch_shapes=[pltpu.VMEM((whole[-1].shape[0], 32, *_TILE), jnp.uint32)],
    interpret=interpret,
  )(*whole, *tiled)


def keystream(
  num_blocks: int,
  swapped: bool,
  flat: bool,
  round_keys: jax.Array,
  counter: jax.Array,
  *,
  interpret: bool = False,
) -> jax.Array:
  """Return `ctr.raw_keystream` from one kernel."""
  axis = _LANES if flat else _SUBLANES
  # The words of a block before and after a carry out of the last word.
  after = words.add(counter.at[3].set(np.uint32(2**32 - 1)), jnp.uint32(1))
  last = jnp.broadcast_to(counter[3], (4,))
  table = _spread(axis, jnp.stack([counter, after, last]))
  keys = _spread(axis, bitslice.key_words(round_keys))
  kernel = functools.partial(_keystream_kernel, axis, swapped)
  n = max(1, num_blocks)  # A grid cannot be empty.
  rows = -(-n // 32) if flat else 4 * -(-n // 128)
  out = _call(kernel, rows, (table, keys), (), interpret)
  return out.reshape(-1)[: 4 * num_blocks] if flat else _blocks(out, num_blocks)


def encrypt_blocks(
  round_keys: jax.Array, blocks: jax.Array, *, interpret: bool = False
) -> jax.Array:
  """Encrypt blocks uint32[n, 4] in memory order by one kernel."""
  n = blocks.shape[0]
  if n == 0:
    return blocks
  padded = jnp.pad(blocks, ((0, -n % 128), (0, 0)))
  # [n, 4] -> [groups, 128, 4] -> [groups, 4, 128] -> [rows, 128]
  rows = padded.reshape(-1, 128, 4).transpose(0, 2, 1).reshape(-1, 128)
  keys = _spread(_SUBLANES, bitslice.key_words(round_keys))
  kernel = functools.partial(_blocks_kernel, _SUBLANES)
  return _blocks(_call(kernel, rows.shape[0], (keys,), (rows,), interpret), n)


def _blocks(rows: jax.Array, n: int) -> jax.Array:
  """Return the first n blocks of rows, uint32[n, 4]."""
  # [rows, 128] -> [groups, 4, 128] -> [4, groups, 128] -> [4, n] -> [n, 4]
  return rows.reshape(-1, 4, 128).transpose(1, 0, 2).reshape(4, -1)[:, :n].T
