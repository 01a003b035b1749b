"""Leaves in, one stream of sealed messages out: this process's part of it.

On the host a part goes from where it lies straight into the stream. On the
device it is sealed there, and only ciphertext comes to the host.
"""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import seal
from keyjax.aes.cobblestone import seal_into
from keyjax.aes.host import Impl
from keyjax.checkpoint import layout
from keyjax.checkpoint.layout import Part
from keyjax.checkpoint.manifest import (
  DTYPES,
  Leaf,
  Manifest,
  context,
  part_context,
)
from keyjax.keyring.leaves import leaf_key

_PACKED = ("int2", "int4", "uint2", "uint4", "float4_e2m1fn")


def on_device(leaf: Any, impl: Impl) -> bool:
  """Tells whether a leaf is sealed, or opened, where it lies.

  Args:
    leaf: an array, or a shape with a sharding.
    impl: "host", "device", or "auto" for accelerators alone.
  """
  sharding = getattr(leaf, "sharding", None)
  if impl == "host" or sharding is None or leaf.size == 0:
    return False
  dtype = jnp.dtype(leaf.dtype)
  if jnp.issubdtype(dtype, jnp.complexfloating) or dtype.name in _PACKED:
    return False  # JAX has no view of them as bytes.
  (device, *_) = sharding.device_set
  return impl == "device" or device.platform != "cpu"


def stream(
  manifest: Manifest,
  data_key: bytes,
  leaves: list[Any],
  process: int,
  impl: Impl,
) -> tuple[np.ndarray, dict[int, bytes]]:
  """Seals what this process writes.

  Args:
    manifest: the layout.
    data_key: the checkpoint's.
    leaves: the arrays, in the manifest's order.
    process: which stream.
    impl: where a `jax.Array` is sealed; see `on_device`.

  Returns:
    uint8[n], the stream, and the SHA-256 of each of its messages, by the
    part's number, if the manifest has digests.
  """
  out, digests, number = np.empty(manifest.streams.size, np.uint8), {}, 0
  for leaf, array in zip(manifest.leaves, leaves, strict=True):
    key = leaf_key(data_key, "leaf", leaf.path)
    device = on_device(array, impl)
    for part in leaf.parts:
      if part.stream == process:
        message = out[part.offset : part.offset + part.size]
        bound, box = (
          part_context(manifest, leaf, part),
          _box(array, part, device),
        )
        if device:
          sealed = seal.seal_array(
            seal.seal_key(key, bound), _bytes(box), impl="device"
          )
          message[:] = np.asarray(sealed)
        else:
          seal_into(key, _view(box, leaf).data, message.data, bound)
        if manifest.digests is not None:
          digests[number] = hashlib.sha256(message.data).digest()
      number += 1
  fill(manifest, data_key, process, out)
  return out, digests


def _box(array: Any, part: Part, device: bool) -> Any:
  """Returns a part of an array, from a shard that this process holds."""
  shards = array.addressable_shards if isinstance(array, jax.Array) else ()
  for shard in shards:
    start, stop = layout.bounds(shard.index, array.shape)
    if _within(part, start, stop):
      first, last = (
        tuple(x - a for x, a in zip(end, start, strict=True))
        for end in (part.start, part.stop)
      )
      whole = part.shape == shard.data.shape
      # NumPy's view of what lies on a CPU is no copy.
      data = shard.data if device else np.asarray(shard.data)
      return data if whole else data[slices(first, last)]
  # On the host, or of this process alone and spread over its devices.
  return np.asarray(array)[slices(part.start, part.stop)]


def _within(part: Part, start: layout.Index, stop: layout.Index) -> bool:
  low = all(a <= x for a, x in zip(start, part.start, strict=True))
  return low and all(x <= b for b, x in zip(stop, part.stop, strict=True))


def slices(start: layout.Index, stop: layout.Index) -> tuple[slice, ...]:
  """Returns the slices of a box."""
  return tuple(map(slice, start, stop))


def _view(box: Any, leaf: Leaf) -> np.ndarray:
  """Returns the bytes of a part on the host; a copy only when it must be."""
  array = np.ascontiguousarray(np.asarray(box, DTYPES[leaf.dtype]))
  return array.reshape(-1).view(np.uint8)


@jax.jit
def _bytes(x: jax.Array) -> jax.Array:
  if x.dtype == jnp.bool_:
    x = x.astype(jnp.uint8)
  return jax.lax.bitcast_convert_type(x, jnp.uint8).reshape(-1)


def fill(
  manifest: Manifest, data_key: bytes, process: int, out: np.ndarray
) -> None:
  """Writes the padding of a stream: zeros, sealed like everything else."""
  key = leaf_key(data_key, "padding", str(process))
  used = manifest.used[process]
  for offset, size in layout.padding(used, manifest.streams.size):
    zeros = np.zeros(seal.size_of_plain(size), np.uint8)
    bound = padding_context(manifest, process, offset)
    seal_into(key, zeros.data, out[offset : offset + size].data, bound)


def padding_context(manifest: Manifest, process: int, offset: int) -> bytes:
  """Returns what a message of padding is bound to."""
  return context("padding", manifest.id, process, offset)
