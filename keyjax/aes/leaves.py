"""A whole tree under one keystream, sharded or not.

Leaves follow each other in the stream, each starting at a new block, and the
position of a word in the stream depends only on its position in the leaf: every
sharding gives the same ciphertext. There is one cipher call for all leaves,
since each call takes a second to compile. A sharded call computes, on every
device, only the blocks for the words of that device, and communicates nothing.
A shard whose rows are not a multiple of 16 bytes computes a block once for each
row that it touches.

Cost: the bytes over the rate of the cipher, divided by the devices. A leaf adds
a few milliseconds of compilation and nothing at run time.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from keyjax.aes import bitslice, block, checks, ctr, host, tpu, words
from keyjax.aes.host import Impl

Like = jax.Array | jax.ShapeDtypeStruct


def _num_blocks(leaf: Like) -> int:
  return -(-leaf.size * leaf.dtype.itemsize // 16)


def _check(
  round_keys: jax.Array, counter: jax.Array, leaves: Sequence[Like]
) -> None:
  checks.round_keys(round_keys)
  checks.counter(counter)
  for leaf in leaves:
    if leaf.dtype not in (jnp.uint8, jnp.uint16, jnp.uint32):
      raise ValueError(
        f"a leaf is {leaf.dtype}{list(leaf.shape)}, not of unsigned words "
        "(uint8, uint16 or uint32)"
      )
  ctr.check_length(0, sum(map(_num_blocks, leaves)))


def _view(stream: jax.Array, like: Like) -> jax.Array:
  """View the words of a stream, in memory order, as the words of a leaf.

  uint32[...] -> the shape and dtype of the leaf
  """
  out = stream.reshape(-1)
  if like.dtype != jnp.uint32:
    out = jax.lax.bitcast_convert_type(out, like.dtype).reshape(-1)
  return out[: like.size].reshape(like.shape)


def xor_words(
  round_keys: jax.Array,
  counter: jax.Array,
  leaves: Sequence[jax.Array],
  *,
  shardings: Sequence[NamedSharding] | None = None,
  impl: Impl = "auto",
) -> list[jax.Array]:
  """Encrypt or decrypt leaves in counter mode; it is its own inverse.

  Args:
    round_keys: uint32[rounds + 1, 4], from `expand_key`.
    counter: uint32[4], the first counter block as big-endian words; never
      used twice with a key.
    leaves: Arrays of uint8, uint16 or uint32 (`tree.as_words`).
    shardings: Sharding of each leaf, all on one mesh; static. Every dimension
      must be divisible by its number of shards. None if leaves are unsharded.
    impl: "host" for machine code, "device" for the bit-sliced circuit, or
      "auto" for the host on a CPU and the device elsewhere.

  Returns:
    Leaves with the same shapes, dtypes and shardings.

  Raises:
    ValueError: If a leaf does not hold unsigned words, `round_keys` or
      `counter` has another shape or dtype, the leaves exceed what one key and
      counter may encrypt, the shardings use several meshes, or a sharding
      splits a leaf of gigabytes into runs of a few bytes.

  Example:
    >>> from keyjax.aes import expand_key
    >>> key, zero = expand_key(bytes(16)), jnp.zeros(4, jnp.uint32)
    >>> leaves = [jnp.arange(5, dtype=jnp.uint8), jnp.zeros(2, jnp.uint32)]
    >>> locked = xor_words(key, zero, leaves)
    >>> xor_words(key, zero, locked)[0]
    Array([0, 1, 2, 3, 4], dtype=uint8)
  """
  _check(round_keys, counter, leaves)
  if shardings is not None:
    made = pads(round_keys, counter, leaves, shardings=shardings, impl=impl)
    return [x ^ pad for x, pad in zip(leaves, made, strict=True)]
  args = (round_keys, counter, *leaves)
  return list(block.choose(impl, host.xor, _xor, _xor_on_tpu, *args))


def pads(
  round_keys: jax.Array,
  counter: jax.Array,
  leaves: Sequence[Like],
  *,
  shardings: Sequence[NamedSharding] | None = None,
  impl: Impl = "auto",
) -> list[jax.Array]:
  """Return the keystream that `xor_words` combines with each leaf.

  Without `shardings` every device computes the whole stream; with them, only
  its own part.

  Args:
    round_keys: uint32[rounds + 1, 4], from `expand_key`.
    counter: uint32[4]; see `xor_words`.
    leaves: Arrays, or shapes and dtypes, of uint8, uint16 or uint32.
    shardings: See `xor_words`.
    impl: See `xor_words`.

  Returns:
    Arrays with the shapes and dtypes of the leaves.

  Raises:
    ValueError: See `xor_words`.

  Example:
    >>> from keyjax.aes import expand_key
    >>> key, zero = expand_key(bytes(16)), jnp.zeros(4, jnp.uint32)
    >>> leaf = jnp.arange(4, dtype=jnp.uint32)
    >>> mixed = leaf ^ pads(key, zero, [leaf])[0]
    >>> bool((mixed == xor_words(key, zero, [leaf])[0]).all())
    True
  """
  _check(round_keys, counter, leaves)
  shapes = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves)
  if shardings is None:
    return _unsharded(round_keys, counter, shapes, impl)
  return _sharded(round_keys, counter, shapes, tuple(shardings), impl)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _unsharded(
  round_keys: jax.Array,
  counter: jax.Array,
  leaves: tuple[jax.ShapeDtypeStruct, ...],
  impl: Impl,
) -> list[jax.Array]:
  total = sum(map(_num_blocks, leaves))
  # uint32[4 * blocks], in memory order
  made = ctr.raw_keystream(round_keys, counter, total, impl, flat=True)
  # The barrier makes XLA compute the keystream once, not in each use.
  return _views(jax.lax.optimization_barrier(made), leaves)


def _views(stream: jax.Array, leaves: Sequence[Like]) -> list[jax.Array]:
  ends = np.cumsum([0, *map(_num_blocks, leaves)]).tolist()
  return [
    _view(stream[4 * a : 4 * b], x)
    for x, a, b in zip(leaves, ends, ends[1:], strict=False)
  ]


def _xor(
  most_lanes: int,
  round_keys: jax.Array,
  counter: jax.Array,
  *leaves: jax.Array,
) -> tuple[jax.Array, ...]:
  total = sum(map(_num_blocks, leaves))
  stream = ctr.bit_sliced(total, False, most_lanes, round_keys, counter)
  return _xor_stream(stream.reshape(-1), leaves)


def _xor_on_tpu(
  round_keys: jax.Array, counter: jax.Array, *leaves: jax.Array
) -> tuple[jax.Array, ...]:
  total = sum(map(_num_blocks, leaves))
  return _xor_stream(
    tpu.keystream(total, False, True, round_keys, counter), leaves
  )


def _xor_stream(
  stream: jax.Array, leaves: Sequence[jax.Array]
) -> tuple[jax.Array, ...]:
  return tuple(
    x ^ pad for x, pad in zip(leaves, _views(stream, leaves), strict=True)
  )


def _axes(entry: str | tuple[str, ...] | None) -> tuple[str, ...]:
  return (entry,) if isinstance(entry, str) else entry or ()


def _groups(
  local: Like, spec: PartitionSpec, shards: list[int]
) -> tuple[jax.Array, int]:
  """Return the positions of the groups of bytes of a shard, and their size.

  The size of a group is the greatest common divisor of a block and of the
  contiguous bytes of the shard, so no group crosses the end of a block.

  Args:
    local: Shard.
    spec: Sharding of the leaf.
    shards: Number of shards of each dimension.

  Returns:
    Positions within the leaf in units of groups, uint32[n], and the number of
    bytes of a group.

  Raises:
    ValueError: If there are 2^32 groups or more: positions would wrap around
      and the keystream would repeat.
  """
  entries = [*spec, *(None,) * (local.ndim - len(spec))]
  cut = max((d for d in range(local.ndim) if shards[d] > 1), default=0)
  run = math.prod(local.shape[cut:]) * local.dtype.itemsize
  size = math.gcd(run, 16) if local.ndim and math.prod(shards) > 1 else 16
  whole = math.prod(local.shape) * math.prod(shards) * local.dtype.itemsize
  if whole // size >= 2**32:
    raise ValueError(
      f"a leaf of {whole} bytes is split into runs of {run}, too many of them: "
      "shard it along another axis"
    )
  position = jnp.arange(-(-run // size), dtype=jnp.uint32)
  stride = -(-run // size)
  for d in range(cut, -1, -1):
    if local.ndim == 0:
      break
    first = jnp.uint32(0)
    for name in _axes(entries[d]):
      count = np.uint32(jax.lax.axis_size(name))
      first = first * count + jax.lax.axis_index(name).astype(jnp.uint32)
    if d == cut:
      position = position + first * np.uint32(stride)
    else:
      index = jnp.arange(local.shape[d], dtype=jnp.uint32)
      index = index + first * np.uint32(local.shape[d])
      position = (index[:, None] * np.uint32(stride) + position[None]).reshape(
        -1
      )
      stride *= local.shape[d]
    stride *= shards[d]
  return position, size


def _at(
  round_keys: jax.Array, counter: jax.Array, index: jax.Array, impl: Impl
) -> jax.Array:
  """Return the blocks of the keystream at any positions, uint32[n, 4]."""

  def counters(counter: jax.Array, index: jax.Array) -> jax.Array:
    base = counter.reshape((1,) * index.ndim + (4,))
    return words.swap(words.add(base, index))

  def device(
    most_lanes: int,
    round_keys: jax.Array,
    counter: jax.Array,
    index: jax.Array,
  ) -> jax.Array:
    n = index.shape[0]
    lanes = block.tile_lanes(most_lanes, index.shape[0])
    keys = bitslice.masks(round_keys)
    # [n] -> [tiles, 32, lanes]
    tiles = jnp.pad(index, (0, -n % (32 * lanes))).reshape(-1, 32, lanes)
    return block.in_tiles(
      lambda s: bitslice.encrypt_planes(keys, s),
      lambda i: bitslice.to_planes(counters(counter, i).transpose(0, 2, 1)),
      tiles,
    )[:n]

  def on_host(
    round_keys: jax.Array, counter: jax.Array, index: jax.Array
  ) -> jax.Array:
    blocks = counters(counter, index)
    return host.crypt_blocks(round_keys, blocks, "encrypt")

  def on_tpu(
    round_keys: jax.Array, counter: jax.Array, index: jax.Array
  ) -> jax.Array:
    return tpu.encrypt_blocks(round_keys, counters(counter, index))

  args = (round_keys, counter, index)
  return block.choose(impl, on_host, device, on_tpu, *args)


def _local(
  round_keys: jax.Array,
  counter: jax.Array,
  shards: Sequence[Like],
  specs: list[PartitionSpec],
  counts: list[list[int]],
  impl: Impl,
) -> list[jax.Array]:
  """Return the keystream for the shards of one device."""
  positions = []
  parts = []
  start = 0
  for shard, spec, count in zip(shards, specs, counts, strict=True):
    position, size = _groups(shard, spec, count)
    per_block = np.uint32(16 // size)
    positions.append(position // per_block + np.uint32(start))
    parts.append((position % per_block, size))
    whole = shard.size * math.prod(count) * shard.dtype.itemsize
    start += -(-whole // 16)
  stream = _at(round_keys, counter, jnp.concatenate(positions), impl)
  out = []
  first = 0
  for shard, (part, size) in zip(shards, parts, strict=True):
    blocks = stream[first : first + part.shape[0]]
    first += part.shape[0]
    if size < 16:
      raw = jax.lax.bitcast_convert_type(blocks, jnp.uint8)
      raw = raw.reshape(-1, 16 // size, size)  # [blocks, groups, bytes]
      raw = jnp.take_along_axis(raw, part[:, None, None], axis=1)
      width = shard.dtype.itemsize
      pad = jax.lax.bitcast_convert_type(
        raw.reshape(-1, width) if width > 1 else raw.reshape(-1), shard.dtype
      )
      out.append(pad[: shard.size].reshape(shard.shape))
    else:
      out.append(_view(blocks, shard))
  return out


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _sharded(
  round_keys: jax.Array,
  counter: jax.Array,
  leaves: tuple[jax.ShapeDtypeStruct, ...],
  shardings: tuple[NamedSharding, ...],
  impl: Impl,
) -> list[jax.Array]:
  meshes = {s.mesh for s in shardings}
  if len(meshes) != 1:
    raise ValueError(
      f"all leaves must be on one mesh, got {len(meshes)} meshes"
    )
  mesh = meshes.pop()
  specs = [s.spec for s in shardings]
  counts = [
    [
      math.prod(mesh.shape[a] for a in _axes(e))
      for e in [*s, *(None,) * (x.ndim - len(s))]
    ]
    for s, x in zip(specs, leaves, strict=True)
  ]
  shards = [
    jax.ShapeDtypeStruct(s.shard_shape(x.shape), x.dtype)
    for s, x in zip(shardings, leaves, strict=True)
  ]

  def local(round_keys: jax.Array, counter: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(_local(round_keys, counter, shards, specs, counts, impl))

  whole = PartitionSpec()
  out = jax.shard_map(
    local,
    mesh=mesh,
    in_specs=(whole, whole),
    out_specs=tuple(specs),
    check_vma=False,
  )(round_keys, counter)
  return list(out)
