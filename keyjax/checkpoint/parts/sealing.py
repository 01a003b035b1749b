"""Sealing leaves into one stream of messages, for one process.

On the host a part is sealed from the array's memory directly into the stream.
On the device it is sealed there, and only ciphertext reaches the host.
Messages are sealed when they are due to be written: a save takes the memory of
a few segments, and the cipher works while storage does.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.aes.host import Impl
from keyjax.checkpoint.format import layout
from keyjax.checkpoint.format.layout import Part, Streams, box_slices
from keyjax.checkpoint.format.manifest import (
  DTYPES,
  Manifest,
  padding_context,
  part_context,
)
from keyjax.checkpoint.parts.stored_leaf import StoredLeaf
from keyjax.keyring.data_keys import leaf_key
from keyjax.seal import seal_array, seal_into, seal_key, size_of_plain

# JAX has no view of these as bytes.
_PACKED_DTYPES = ("int2", "int4", "uint2", "uint4", "float4_e2m1fn")

Salt = Callable[[], bytes | None]


class Message(NamedTuple):
  """A message to be sealed when it is due; its repr shows no key.

  Attributes:
    size: Bytes of the message.
    seal_into: Seals it into a buffer of that size.
  """

  size: int
  seal_into: Callable[[memoryview], None]


def check_impl(impl: str) -> None:
  """Raise a ValueError for an unknown `impl`."""
  if impl not in ("auto", "host", "device"):
    raise ValueError(f'impl is "auto", "host" or "device", got {impl!r}')


def uses_device(leaf: Any, impl: Impl) -> bool:
  """Return whether a leaf is sealed, or opened, on its own devices.

  Args:
    leaf: Array, or a shape with a sharding.
    impl: "host", "device", or "auto" for "device" only on accelerators.
  """
  sharding = getattr(leaf, "sharding", None)
  if impl == "host" or sharding is None or leaf.size == 0:
    return False
  dtype = jnp.dtype(leaf.dtype)
  is_complex = jnp.issubdtype(dtype, jnp.complexfloating)
  if is_complex or dtype.name in _PACKED_DTYPES:
    return False
  (device, *_) = sharding.device_set
  return impl == "device" or device.platform != "cpu"


def random_salt() -> bytes | None:
  """Let the cipher draw a message's salt at random."""
  return None


def stream_messages(
  manifest: Manifest,
  data_key: bytes,
  leaves: list[Any],
  process: int,
  impl: Impl,
  salt: Salt = random_salt,
) -> Iterator[Message]:
  """Return the messages of a process, in the order of its stream.

  Args:
    manifest: Layout.
    data_key: Data key of the checkpoint.
    leaves: Arrays in the order of the manifest.
    process: Number of the stream.
    impl: Where a `jax.Array` is sealed; see `uses_device`.
    salt: Returns the salt of each message.
  """
  for leaf, array in zip(manifest.leaves, leaves, strict=True):
    key = leaf_key(data_key, "leaf", leaf.path)
    on_device = uses_device(array, impl)
    for part in leaf.parts:
      if part.stream != process:
        continue
      context = part_context(manifest, leaf, part)
      if on_device:
        seal_part = _seal_on_device(array, part, key, context, salt)
      else:
        seal_part = _seal_on_host(array, part, leaf.dtype, key, context, salt)
      yield Message(part.size, seal_part)
  yield from padding_messages(manifest, data_key, process, salt)


# Closures, because `functools.partial` would show the key in its repr.


def _seal_on_host(
  array: Any,
  part: Part,
  dtype: str,
  key: bytes,
  context: bytes,
  salt: Salt,
) -> Callable[[memoryview], None]:
  def seal_part(out: memoryview) -> None:
    values = _part_of(array, part, on_device=False)
    # A copy only if the part is not contiguous.
    values = np.ascontiguousarray(np.asarray(values, DTYPES[dtype]))
    data = values.reshape(-1).view(np.uint8).data
    seal_into(key, data, out, context, salt=salt())

  return seal_part


def _seal_on_device(
  array: jax.Array, part: Part, key: bytes, context: bytes, salt: Salt
) -> Callable[[memoryview], None]:
  def seal_part(out: memoryview) -> None:
    values = _part_of(array, part, on_device=True)
    message_key = seal_key(key, context, salt=salt())
    sealed = seal_array(message_key, _as_bytes(values), impl="device")
    np.asarray(out)[:] = np.asarray(sealed)

  return seal_part


def seal_plain(
  plain: memoryview, key: bytes, context: bytes, salt: Salt
) -> Callable[[memoryview], None]:
  """Return a function that seals bytes into a buffer.

  Args:
    plain: Plaintext.
    key: Key to seal with.
    context: What the message is bound to.
    salt: Returns the salt.
  """

  def seal_bytes(out: memoryview) -> None:
    seal_into(key, plain, out, context, salt=salt())

  return seal_bytes


def padding_messages(
  manifest: Manifest,
  data_key: bytes,
  process: int,
  salt: Salt = random_salt,
) -> Iterator[Message]:
  """Return the messages of sealed zeros that fill a stream."""
  key = leaf_key(data_key, "padding", str(process))
  used = manifest.used[process]
  size_of_stream = manifest.streams.size
  for offset, size in layout.padding_messages(used, size_of_stream):
    context = padding_context(manifest, process, offset)
    yield Message(size, _seal_zeros(size, key, context, salt))


def _seal_zeros(
  size: int, key: bytes, context: bytes, salt: Salt
) -> Callable[[memoryview], None]:
  def seal_zeros(out: memoryview) -> None:
    seal_into(key, bytes(size_of_plain(size)), out, context, salt=salt())

  return seal_zeros


def with_digests(
  messages: Iterable[Message], digests: list[bytes]
) -> Iterator[Message]:
  """Return the messages; each appends its SHA-256 once it is sealed."""
  for message in messages:
    yield Message(message.size, _seal_and_digest(message, digests))


def _seal_and_digest(
  message: Message, digests: list[bytes]
) -> Callable[[memoryview], None]:
  def seal_message(out: memoryview) -> None:
    message.seal_into(out)
    digests.append(hashlib.sha256(out).digest())

  return seal_message


class SegmentSealer:
  """A stream that is sealed one segment at a time, so never held whole."""

  def __init__(self, streams: Streams, messages: Iterable[Message]):
    """Start with the first message.

    Args:
      streams: How the stream is split into segments.
      messages: Messages that fill it.
    """
    self._size = streams.segment_size
    self._messages = iter(messages)
    self._rest = np.empty(0, np.uint8)  # Of a message that did not fit.
    self._spare: list[np.ndarray] = []

  def next_segment(self) -> np.ndarray:
    """Return the next segment, uint8[segment_size]."""
    segment = (
      self._spare.pop() if self._spare else np.empty(self._size, np.uint8)
    )
    done = 0
    while done < self._size:
      if self._rest.size:
        taken = self._rest[: self._size - done]
        segment[done : done + taken.size] = taken
        self._rest = self._rest[taken.size :]
        done += taken.size
        continue
      message = next(self._messages)
      if message.size <= self._size - done:
        message.seal_into(segment[done : done + message.size].data)
        done += message.size
      else:
        self._rest = np.empty(message.size, np.uint8)
        message.seal_into(self._rest.data)
    return segment

  def reuse(self, segment: np.ndarray) -> None:
    """Accept the memory of a segment that was written."""
    self._spare.append(segment)


def _part_of(array: Any, part: Part, on_device: bool) -> Any:
  """Return a part of an array, from a shard that this process holds."""
  if isinstance(array, StoredLeaf):
    return array.read(part.start, part.stop)
  shards = array.addressable_shards if isinstance(array, jax.Array) else ()
  for shard in shards:
    start, stop = layout.slice_bounds(shard.index, array.shape)
    if not _is_within(part, start, stop):
      continue
    # NumPy's view of an array on a CPU is not a copy.
    values = shard.data if on_device else np.asarray(shard.data)
    if part.shape == shard.data.shape:
      return values
    # Indices of the whole array -> indices of the shard.
    return values[layout.relative_slices(part.start, part.stop, start)]
  # On the host, or spread over the devices of this process only.
  return np.asarray(array)[box_slices(part.start, part.stop)]


def _is_within(part: Part, start: layout.Index, stop: layout.Index) -> bool:
  after = all(a <= x for a, x in zip(start, part.start, strict=True))
  return after and all(x <= b for b, x in zip(stop, part.stop, strict=True))


@jax.jit
def _as_bytes(x: jax.Array) -> jax.Array:
  """Return the bytes of an array: dtype[...] -> uint8[size in bytes]."""
  if x.dtype == jnp.bool_:
    x = x.astype(jnp.uint8)
  # dtype[...] -> uint8[..., itemsize] -> uint8[n]
  return jax.lax.bitcast_convert_type(x, jnp.uint8).reshape(-1)
