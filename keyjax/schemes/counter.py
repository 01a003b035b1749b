"""AES in counter mode over the locked leaves of a tree, shared by schemes.

Leaves take the keystream one after the other, each starting at a new block, in
the order of their bytes in memory (`keyjax.aes.leaves`).
"""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from keyjax import aes, arguments, keys, meshes, tree
from keyjax.aes import schedule
from keyjax.aes.ctr import MAX_BLOCKS


class CounterModeKey(keys.Key):
  """Base class of keys whose secret is the round keys of one AES key."""

  distance_unit = "bits"
  round_keys: jax.Array

  def near(self, distance: int, rng: np.random.Generator) -> Self:
    """Flip bits of the AES key."""
    octets = np.frombuffer(self._aes_key(), np.uint8)
    flipped = keys.flip_bits(octets, distance, rng).tobytes()
    return self.replace(round_keys=jnp.asarray(aes.expand_key(flipped)))

  def max_distance(self) -> int:
    """Return the number of bits of the AES key."""
    return 8 * len(self._aes_key())

  def rebind(self, new: Self, params: Any) -> Any:
    """Return the params: the pass is the plain one."""
    del new
    return params

  def check(self) -> None:
    """Raise a ValueError if some round keys were altered."""
    schedule.check_expanded(self.round_keys)

  def _aes_key(self) -> bytes:
    return schedule.key_of(np.asarray(self.round_keys))


def check_nonce(nonce: bytes | None, scheme: str) -> None:
  """Raise a ValueError if there is a nonce that does not have 12 bytes."""
  if nonce is None:
    return
  if not isinstance(nonce, bytes):
    raise TypeError(
      f"{scheme}: a nonce is 12 bytes, got {arguments.describe(nonce)}"
    )
  if len(nonce) != 12:
    raise ValueError(f"{scheme}: a nonce has 12 bytes, got {len(nonce)}")


def first_block(nonce: bytes | None) -> jax.Array:
  """Return the first counter block, uint32[4]; with a fresh nonce for None.

  Counter blocks (SP 800-38A) are 96 bits of nonce and 32 bits of counter.
  """
  # uint8[16] -> big-endian uint32[4]
  block = np.frombuffer((nonce or os.urandom(12)) + bytes(4), ">u4")
  return jnp.asarray(block.astype(np.uint32))


def check(key: Any, scheme: str) -> None:
  """Raise a ValueError for round keys of another shape, or altered ones."""
  keys.require_shape(key.round_keys, ((11, 4), (15, 4)), scheme)
  key.check()


def check_room(spec: tree.Spec, scheme: str) -> None:
  """Raise a ValueError for a tree that is too large for one nonce."""
  sizes = [
    np.prod(x.shape, dtype=np.int64) * x.dtype.itemsize for x in _words(spec)
  ]
  if sum(-(-int(size) // 16) for size in sizes) > MAX_BLOCKS:
    raise ValueError(
      f"{scheme}: more than 64 GiB under one nonce; partition it"
    )


def float_spec(params: Any, layers: str, scheme: str) -> tree.Spec:
  """Describe a tree whose floats at some paths are locked, and nothing else.

  Raises:
    ValueError: If no leaf of floats matches, or they have more than 64 GiB.
  """
  match = tree.matcher(layers)
  found = tree.make_spec(params, scheme)
  spec = tuple(
    s._replace(locked=s.locked and s.dtype != "int8" and match(s.path))
    for s in found
  )
  if not any(s.locked for s in spec):
    raise ValueError(f"{scheme}: {tree.no_floats(layers, found)}")
  keys.require_native(spec, scheme)
  check_room(spec, scheme)
  return spec


def mix(
  key: Any,
  params: Any,
  shardings: Any,
  scheme: str,
  mix_leaf: Callable[[jax.Array, jax.Array], jax.Array],
) -> Any:
  """Return a tree whose locked leaves are `mix_leaf(leaf, its keystream)`."""
  leaves, treedef = tree.check_spec(key.spec, params, scheme, words=False)
  out = [
    x if pad is None else mix_leaf(x, pad)
    for x, pad in zip(leaves, pads(key, leaves, shardings, scheme), strict=True)
  ]
  return jax.tree.unflatten(treedef, out)


def pads(
  key: Any, leaves: Sequence[Any], shardings: Any, scheme: str
) -> list[jax.Array | None]:
  """Return the keystream of each leaf, and None for unlocked leaves.

  Args:
    key: Key with `round_keys`, `nonce` and `spec`.
    leaves: Leaves of the tree that the keystream is for.
    shardings: Tree of `NamedSharding` with the paths of the locked leaves; if
      None, those of the leaves over Explicit axes. Over Auto axes every device
      then computes the whole keystream.
    scheme: Name of the scheme, for errors.

  Returns:
    For each leaf of `key.spec` words of the leaf's width in its shape, or None.

  Raises:
    ValueError: If a locked leaf has no sharding, or one that does not divide
      it, or round keys were altered.
  """
  check(key, scheme)
  locked = [x for x, s in zip(leaves, key.spec, strict=True) if s.locked]
  args = (key.round_keys, key.nonce)
  if shardings is not None:
    shardings = _leaf_shardings(key.spec, shardings, scheme)
    made = aes.pads(*args, _words(key.spec), shardings=shardings)
  elif parts := _explicit_shardings(locked):
    made = _own_pads(*args, locked, key.spec, parts)
  else:
    made = meshes.replicated(aes.pads(*args, _words(key.spec)), leaves)
  found = iter(made)
  return [next(found) if s.locked else None for s in key.spec]


# Outside of `jit`, only the leaves know the devices of the mesh.
@functools.partial(jax.jit, static_argnums=(3, 4), keep_unused=True)
def _own_pads(
  round_keys: jax.Array,
  nonce: jax.Array,
  leaves: list[jax.Array],
  spec: tree.Spec,
  shardings: tuple[NamedSharding, ...],
) -> list[jax.Array]:
  """Return the keystream of leaves, each device computing its own part."""
  del leaves
  return aes.pads(round_keys, nonce, _words(spec), shardings=shardings)


def _explicit_shardings(leaves: list[Any]) -> tuple[NamedSharding, ...] | None:
  """Return the shardings over Explicit axes; None unless they split a leaf."""
  found = [meshes.explicit_sharding(x) for x in leaves]
  on = {s.mesh for s in found if s is not None}
  if len(on) != 1 or any(mesh.manual_axes for mesh in on):
    return None
  whole = NamedSharding(on.pop(), PartitionSpec())
  parts = tuple(s or whole for s in found)
  return None if all(s.is_fully_replicated for s in parts) else parts


def _words(spec: tree.Spec) -> list[jax.ShapeDtypeStruct]:
  return [
    jax.ShapeDtypeStruct(s.shape, tree.word_dtype(s.dtype))
    for s in spec
    if s.locked
  ]


def _leaf_shardings(
  spec: tree.Spec, shardings: Any, scheme: str
) -> list[NamedSharding]:
  """Return the sharding of each locked leaf."""
  paths, leaves, _ = tree.flatten(shardings)
  by_path = dict(zip(paths, leaves, strict=True))
  locked = [s for s in spec if s.locked]
  for leaf in locked:
    if leaf.path not in by_path:
      raise ValueError(f"{scheme}: shardings lack leaf {leaf.path}")
    sharding = by_path[leaf.path]
    if not isinstance(sharding, NamedSharding):
      raise ValueError(
        f"{scheme}: shardings hold a {type(sharding).__name__} for leaf "
        f"{leaf.path}, not a NamedSharding"
      )
    if not _divides(sharding, leaf.shape):
      raise ValueError(
        f"{scheme}: leaf {leaf.path}, {list(leaf.shape)}, cannot be cut as "
        f"{sharding.spec}"
      )
  return [by_path[s.path] for s in locked]


def _divides(sharding: NamedSharding, shape: tuple[int, ...]) -> bool:
  spec = sharding.spec
  if len(spec) > len(shape) or PartitionSpec.UNCONSTRAINED in spec:
    return False
  try:
    sharding.shard_shape(shape)
  except ValueError:
    return False
  return True
