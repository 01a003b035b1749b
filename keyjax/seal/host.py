"""Sealed bytes on the host; see `keyjax.seal`."""

from collections.abc import Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import constant_time
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyjax.errors import SealError
from keyjax.seal.chunks import chunk_cipher, count_chunks, overlap
from keyjax.seal.format import (
  AEAD_NAMES,
  CHUNK_BYTES,
  HEADER_BYTES,
  MAX_CHUNKS,
  SALT_BYTES,
  SEALED_CHUNK_BYTES,
  TAG_BYTES,
  checked_salt,
  derive,
  size_of_plain,
  size_of_sealed,
)

_TWO_CHUNKS = HEADER_BYTES + SEALED_CHUNK_BYTES  # Bytes of two chunks or more.


def seal(
  key: bytes,
  data: bytes | bytearray | memoryview,
  context: bytes = b"",
  *,
  salt: bytes | None = None,
) -> bytes:
  """Seal bytes on the host.

  Args:
    key: 16 bytes for Cobblestone-128, 32 for Cobblestone-256, uniform.
    data: Plaintext.
    context: Associated data that the message is bound to; not stored.
    salt: 24 bytes that never repeat under a key; random by default.

  Returns:
    `size_of_sealed(len(data))` bytes.

  Raises:
    ValueError: If the key or the salt has another size, or the data is too
      long.

  Example:
    >>> import os
    >>> key = os.urandom(32)
    >>> unseal(key, seal(key, b"weights", b"model-a"), b"model-a")
    b'weights'
    >>> len(seal(key, b"weights"))
    79
  """
  sealed = bytearray(size_of_sealed(memoryview(data).nbytes))
  seal_into(key, data, sealed, context, salt=salt)
  return bytes(sealed)


def seal_into(
  key: bytes,
  data: bytes | bytearray | memoryview,
  out: bytearray | memoryview,
  context: bytes = b"",
  *,
  salt: bytes | None = None,
) -> None:
  """Seal bytes into an existing buffer; see `seal`.

  Args:
    key: As for `seal`.
    data: Plaintext.
    out: Buffer of `size_of_sealed(len(data))` bytes, overwritten.
    context: Associated data that the message is bound to; not stored.
    salt: 24 bytes that never repeat under a key; random by default.

  Raises:
    ValueError: If the key, the salt or `out` has another size, `out` is
      read-only or overlaps the data, or the data is too long.
  """
  plain = memoryview(data).cast("B")
  sealed = memoryview(out).cast("B")
  if len(sealed) != size_of_sealed(len(plain)):
    raise ValueError(f"{len(plain)} bytes do not seal into {len(sealed)}")
  _check_target(sealed, plain)
  salt = checked_salt(salt)
  subkey, base_nonce, commitment = derive(key, salt, context)
  sealed[:HEADER_BYTES] = salt + commitment
  chunk_cipher(subkey, base_nonce).seal(plain, sealed[HEADER_BYTES:])


class Opener:
  """The derived key of one message, once its commitment has been checked.

  Example:
    >>> import os
    >>> key, out = os.urandom(32), bytearray(3)
    >>> message = memoryview(seal(key, b"abc"))
    >>> opener = Opener(key, message[:HEADER_BYTES])
    >>> opener.open_into(0, message[HEADER_BYTES:], out)
    >>> out
    bytearray(b'abc')
  """

  def __init__(
    self, key: bytes, header: bytes | memoryview, context: bytes = b""
  ):
    """Derive the key of a message and check the commitment to it.

    Args:
      key: Key that the message was sealed with.
      header: First `HEADER_BYTES` bytes of the message.
      context: Associated data that the message is bound to.

    Raises:
      SealError: If the key or context is wrong, or the header is damaged.
    """
    self._cipher = chunk_cipher(*_open_header(key, bytes(header), context))

  def open_chunk(self, index: int, chunk: memoryview | bytes) -> bytes:
    """Return the plaintext of one chunk; see `open_into`."""
    out = bytearray(max(0, len(chunk) - TAG_BYTES))
    self.open_into(index, memoryview(chunk), out)
    return bytes(out)

  def open_into(
    self, first: int, chunks: memoryview, out: bytearray | memoryview
  ) -> None:
    """Open consecutive chunks into an existing buffer.

    Args:
      first: Index of the first chunk.
      chunks: One chunk or more, tags included.
      out: Buffer of as many bytes as the chunks hold; not to be used after an
        error.

    Raises:
      SealError: If a chunk is damaged, has another index, or does not fill the
        buffer.
      ValueError: If no message has a chunk of such an index, or the buffer is
        read-only or overlaps the chunks.
      TypeError: If a buffer is not contiguous.
    """
    target = memoryview(out).cast("B")
    chunks = memoryview(chunks).cast("B")
    count = count_chunks(chunks)
    if not 0 <= first <= MAX_CHUNKS - count:
      raise ValueError(
        f"chunks {first} to {first + count}: a message has chunks 0 to 2^38 - 1"
      )
    # A last chunk without a whole tag would leave less than the others hold.
    size = len(chunks) - count * TAG_BYTES
    if not chunks or len(target) != size or size < (count - 1) * CHUNK_BYTES:
      raise SealError
    _check_target(target, chunks)
    self._cipher.open(first, chunks, target)


def _check_target(out: memoryview, source: memoryview) -> None:
  if out.readonly:
    raise ValueError("the buffer to write to is read-only")
  if overlap(out, source):
    raise ValueError("the buffer to write to overlaps the one that is read")


def unseal(
  key: bytes,
  sealed: bytes | bytearray | memoryview,
  context: bytes = b"",
  *,
  start: int = 0,
  stop: int | None = None,
) -> bytes:
  """Open sealed bytes, or a slice of them, on the host.

  Args:
    key: Key that they were sealed with.
    sealed: Whole message; a memory map works too, of a file that does not
      change meanwhile.
    context: Associated data that they are bound to.
    start: First byte of the plaintext slice.
    stop: End of the slice, exclusive; None is the end of the message. Only
      the chunks that hold the slice are read; the others are not verified.

  Returns:
    The plaintext, all of it authenticated.

  Raises:
    SealError: If the key or the context is wrong, or the data is damaged.
    ValueError: If the slice is not within the message.
  """
  view = memoryview(sealed).cast("B")
  if (start, stop) == (0, None) and len(view) < _TWO_CHUNKS:
    return _unseal_chunk(key, view, context)
  opener = Opener(key, view[:HEADER_BYTES], context)
  size = size_of_plain(len(view))
  stop = size if stop is None else stop
  if not 0 <= start <= stop <= size:
    raise ValueError(f"bytes {start} to {stop} of a message of {size}")
  first = start // CHUNK_BYTES
  end = max(stop - 1, start) // CHUNK_BYTES + 1
  if stop == size:
    end = size // CHUNK_BYTES + 1  # Even an empty last chunk proves the end.
  step = SEALED_CHUNK_BYTES
  body = view[HEADER_BYTES:]
  chunks = body[first * step : end * step]
  plain = bytearray(len(chunks) - TAG_BYTES * (end - first))
  opener.open_into(first, chunks, plain)
  begin = start - first * CHUNK_BYTES
  return bytes(memoryview(plain)[begin : begin + stop - start])


def _unseal_chunk(key: bytes, sealed: memoryview, context: bytes) -> bytes:
  """Open a message of one chunk, in a third of the time."""
  subkey, nonce = _open_header(key, bytes(sealed[:HEADER_BYTES]), context)
  try:  # The nonce of chunk 0 is the base nonce.
    return AESGCM(subkey).decrypt(nonce, sealed[HEADER_BYTES:], None)
  except InvalidTag:
    raise SealError from None


def _open_header(
  key: bytes, header: bytes, context: bytes
) -> tuple[bytes, bytes]:
  """Return a message's key and base nonce, if it commits to them."""
  if len(header) != HEADER_BYTES or len(key) not in AEAD_NAMES:
    raise SealError
  subkey, base_nonce, expected = derive(key, header[:SALT_BYTES], context)
  if not constant_time.bytes_eq(expected, header[SALT_BYTES:]):
    raise SealError
  return subkey, base_nonce


class Reader:
  """An iterator over the authenticated plaintext chunks of a stream.

  After a failure it raises the error on every further call. A truncated
  stream yields the chunks before the cut, then raises.
  """

  def __init__(self, key: bytes, file: BinaryIO, context: bytes = b""):
    """Prepare to read a stream.

    Args:
      key: Key that the stream was sealed with.
      file: Object with a `read` method.
      context: Associated data that the stream is bound to.
    """
    self._chunks = self._open(key, file, context)
    self._done = False

  def __iter__(self) -> Iterator[bytes]:
    return self

  def __next__(self) -> bytes:
    if self._done:
      raise StopIteration
    try:
      chunk, self._done = next(self._chunks)
    except StopIteration:  # The generator ended with an error before.
      raise SealError from None
    return chunk

  @staticmethod
  def _open(
    key: bytes, file: BinaryIO, context: bytes
  ) -> Iterator[tuple[bytes, bool]]:
    opener = Opener(key, file.read(HEADER_BYTES), context)
    for i in range(MAX_CHUNKS):
      sealed = file.read(SEALED_CHUNK_BYTES)
      last = len(sealed) < SEALED_CHUNK_BYTES
      yield opener.open_chunk(i, sealed), last
      if last:
        return
