"""Sealed bytes on the host, by OpenSSL; see `keyjax.seal`."""

from collections.abc import Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import constant_time
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyjax.errors import SealError
from keyjax.seal.format import (
  AEAD_NAMES,
  CHUNK_BYTES,
  HEADER_BYTES,
  MAX_CHUNKS,
  SALT_BYTES,
  SEALED_CHUNK_BYTES,
  TAG_BYTES,
  checked_salt,
  chunk_nonce,
  derive,
  size_of_plain,
  size_of_sealed,
)


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
    ValueError: If the key, the salt or `out` has another size, or the data is
      too long.
  """
  plain = memoryview(data).cast("B")
  sealed = memoryview(out).cast("B")
  if len(sealed) != size_of_sealed(len(plain)):
    raise ValueError(f"{len(plain)} bytes do not seal into {len(sealed)}")
  salt = checked_salt(salt)
  subkey, base_nonce, commitment = derive(key, salt, context)
  sealed[:HEADER_BYTES] = salt + commitment
  cipher = AESGCM(subkey)
  body = sealed[HEADER_BYTES:]
  for i in range(len(plain) // CHUNK_BYTES + 1):
    chunk = plain[i * CHUNK_BYTES : (i + 1) * CHUNK_BYTES]
    target = body[i * SEALED_CHUNK_BYTES : (i + 1) * SEALED_CHUNK_BYTES]
    cipher.encrypt_into(chunk_nonce(base_nonce, i), chunk, None, target)


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
    header = bytes(header)
    if len(header) != HEADER_BYTES or len(key) not in AEAD_NAMES:
      raise SealError
    subkey, base_nonce, expected = derive(key, header[:SALT_BYTES], context)
    if not constant_time.bytes_eq(expected, header[SALT_BYTES:]):
      raise SealError
    self._base_nonce = base_nonce
    self._cipher = AESGCM(subkey)

  def open_chunk(self, index: int, chunk: memoryview | bytes) -> bytes:
    """Return the plaintext of one chunk.

    Raises:
      SealError: If the chunk is damaged, or has another index.
      ValueError: If no message has a chunk of that index.
    """
    nonce = chunk_nonce(self._base_nonce, index)
    try:
      return self._cipher.decrypt(nonce, chunk, None)
    except InvalidTag:
      raise SealError from None

  def open_into(
    self, first: int, chunks: memoryview, out: bytearray | memoryview
  ) -> None:
    """Open consecutive chunks into an existing buffer.

    Args:
      first: Index of the first chunk.
      chunks: Chunks, tags included.
      out: Buffer of as many bytes as the chunks hold; not to be used after an
        error.

    Raises:
      SealError: If a chunk is damaged, has another index, or does not fill the
        buffer.
      ValueError: If no message has a chunk of such an index.
    """
    target = memoryview(out).cast("B")
    count = -(-len(chunks) // SEALED_CHUNK_BYTES)
    if len(target) != len(chunks) - count * TAG_BYTES:
      raise SealError
    for i in range(count):
      chunk = chunks[i * SEALED_CHUNK_BYTES : (i + 1) * SEALED_CHUNK_BYTES]
      plain = target[i * CHUNK_BYTES : (i + 1) * CHUNK_BYTES]
      nonce = chunk_nonce(self._base_nonce, first + i)
      try:
        self._cipher.decrypt_into(nonce, chunk, None, plain)
      except (InvalidTag, ValueError):
        raise SealError from None


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
    sealed: Whole message; a memory map works too.
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
  parts = [
    opener.open_chunk(i, body[i * step : (i + 1) * step])
    for i in range(first, end)
  ]
  return b"".join(parts)[start - first * CHUNK_BYTES :][: stop - start]


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
