"""Leaves in, one stream of sealed messages out: this process's part of it.

On the host a part goes from where it lies straight into the stream. On the
device it is sealed there, and only ciphertext comes to the host. Messages are
sealed when their turn to be written comes: a save takes the memory of a few
segments, and the cipher works while storage does.
"""

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.aes.host import Impl
from keyjax.checkpoint.format import layout
from keyjax.checkpoint.format.layout import Part, Streams
from keyjax.checkpoint.format.manifest import (
  DTYPES,
  Manifest,
  context,
  part_context,
)
from keyjax.keyring.data_keys import leaf_key
from keyjax.seal import seal_array, seal_into, seal_key, size_of_plain

_PACKED = ("int2", "int4", "uint2", "uint4", "float4_e2m1fn")


def check_impl(impl: str) -> None:
  """Raises a ValueError unless `impl` is one that there is."""
  if impl not in ("auto", "host", "device"):
    raise ValueError(f'impl is "auto", "host" or "device", got {impl!r}')


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


Message = tuple[int, Callable[[memoryview], None]]
Salt = Callable[[], bytes | None]


def hidden(
  how: Callable[..., None], *args: Any
) -> Callable[[memoryview], None]:
  """Binds arguments as `functools.partial` does, which shows them in `repr`."""
  return lambda out: how(*args, out)


def random_salt() -> bytes | None:
  """Leaves a message's salt to the cipher, which draws it at random."""
  return None


def messages(
  manifest: Manifest,
  data_key: bytes,
  leaves: list[Any],
  process: int,
  impl: Impl,
  salt: Salt = random_salt,
) -> Iterator[Message]:
  """Returns what this process writes, in the order of its stream.

  Args:
    manifest: the layout.
    data_key: the checkpoint's.
    leaves: the arrays, in the manifest's order.
    process: which stream.
    impl: where a `jax.Array` is sealed; see `on_device`.
    salt: gives the salt of each message.

  Yields:
    The size of each message, and what seals it into memory of that size.
  """
  for leaf, array in zip(manifest.leaves, leaves, strict=True):
    key, device = leaf_key(data_key, "leaf", leaf.path), on_device(array, impl)
    for part in leaf.parts:
      if part.stream == process:
        bound = part_context(manifest, leaf, part)
        box = functools.partial(_box, array, part, device)
        how = _on_device if device else functools.partial(_on_host, leaf.dtype)
        yield part.size, hidden(how, key, bound, salt, box)
  yield from padding(manifest, data_key, process, salt)


def padding(
  manifest: Manifest,
  data_key: bytes,
  process: int,
  salt: Salt = random_salt,
) -> Iterator[Message]:
  """Returns the messages that fill a stream up: zeros, sealed like the rest."""
  key = leaf_key(data_key, "padding", str(process))
  used = manifest.used[process]
  for offset, size in layout.padding(used, manifest.streams.size):
    bound = padding_context(manifest, process, offset)
    plain = functools.partial(bytes, size_of_plain(size))
    yield size, hidden(_zeros, key, bound, salt, plain)


def _zeros(
  key: bytes,
  bound: bytes,
  salt: Salt,
  plain: Callable[[], bytes],
  out: memoryview,
) -> None:
  seal_into(key, plain(), out, bound, salt=salt())


def padding_context(manifest: Manifest, process: int, offset: int) -> bytes:
  """Returns what a message of padding is bound to."""
  return context("padding", manifest.id, process, offset)


def _on_host(
  dtype: str,
  key: bytes,
  bound: bytes,
  salt: Salt,
  box: Callable[[], Any],
  out: memoryview,
) -> None:
  # A copy only where what is wanted does not lie together.
  array = np.ascontiguousarray(np.asarray(box(), DTYPES[dtype]))
  data = array.reshape(-1).view(np.uint8).data
  seal_into(key, data, out, bound, salt=salt())


def _on_device(
  key: bytes,
  bound: bytes,
  salt: Salt,
  box: Callable[[], jax.Array],
  out: memoryview,
) -> None:
  made = seal_key(key, bound, salt=salt())
  sealed = seal_array(made, _bytes(box()), impl="device")
  np.asarray(out)[:] = np.asarray(sealed)


def digested(
  found: Iterable[Message], digests: list[bytes]
) -> Iterator[Message]:
  """Returns the messages, and notes the SHA-256 of each once it is sealed."""

  def fill(how: Callable[[memoryview], None], out: memoryview) -> None:
    how(out)
    digests.append(hashlib.sha256(out).digest())

  for size, how in found:
    yield size, functools.partial(fill, how)


class Segments:
  """Seals a stream segment by segment, so that it is never there as a whole."""

  def __init__(self, streams: Streams, found: Iterable[Message]):
    """Begins with the first message.

    Args:
      streams: how the stream is cut.
      found: messages that fill it.
    """
    self._size, self._messages = streams.segment, iter(found)
    self._rest = np.empty(0, np.uint8)  # Of a message that did not fit.
    self._spare: list[np.ndarray] = []

  def next(self) -> np.ndarray:
    """Returns the next segment, uint8[1, size]."""
    out = self._spare.pop() if self._spare else np.empty(self._size, np.uint8)
    done = 0
    while done < self._size:
      if self._rest.size:
        taken = self._rest[: self._size - done]
        out[done : done + taken.size] = taken
        self._rest = self._rest[taken.size :]
        done += taken.size
        continue
      size, fill = next(self._messages)
      if size <= self._size - done:
        fill(out[done : done + size].data)
        done += size
      else:
        self._rest = np.empty(size, np.uint8)
        fill(self._rest.data)
    return out.reshape(1, -1)

  def release(self, segment: np.ndarray) -> None:
    """Takes back the memory of a segment that was written."""
    self._spare.append(segment.reshape(-1))


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


@jax.jit
def _bytes(x: jax.Array) -> jax.Array:
  if x.dtype == jnp.bool_:
    x = x.astype(jnp.uint8)
  return jax.lax.bitcast_convert_type(x, jnp.uint8).reshape(-1)
