"""Sealed bytes on the host: c2sp.org/chunked-encryption, by OpenSSL.

A message is `salt (24) || commitment (32) || chunk 0 || chunk 1 || ...`, each
chunk the AES-GCM of 16 KiB under a key derived for this message, the last one
shorter. See `keyjax.seal`, which offers all of this to users.

References:
  C2SP, "Chunked Encryption", c2sp.org/chunked-encryption, 2026.
"""

import os
from collections.abc import Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import constant_time, hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from keyjax.errors import SealError
from keyjax.seal.chunks_host import (
  CHUNK,
  TAG,
  nonce_of,
  plain_bytes,
  sealed_bytes,
)

SALT = 24
HEADER = 56
MAX_CHUNKS = 2**38
_AEADS = {16: b"AEAD_AES_128_GCM", 32: b"AEAD_AES_256_GCM"}


def derive(key: bytes, salt: bytes, context: bytes) -> tuple[bytes, ...]:
  """Returns the message's key, base nonce and commitment."""
  if len(key) not in _AEADS:
    raise ValueError(f"a sealing key has 16 or 32 bytes, got {len(key)}")
  prefix = b"c2sp.org/chunked-encryption@v1+" + _AEADS[len(key)] + b"\x00"
  n = len(key)
  hkdf = HKDFExpand(hashes.SHA512(), n + 44, prefix + salt + context)
  out = hkdf.derive(key)
  return out[:n], out[n : n + 12], out[n + 12 :]


def checked_salt(salt: bytes | None) -> bytes:
  """Returns the salt, or a random one for None."""
  if salt is None:
    return os.urandom(SALT)
  if len(salt) != SALT:
    raise ValueError(f"a salt has {SALT} bytes, got {len(salt)}")
  return salt


def size_of_sealed(size: int) -> int:
  """Returns the size of the sealed form of `size` bytes.

  Raises:
    ValueError: a message cannot be that long.
  """
  if size // CHUNK + 1 > MAX_CHUNKS:
    raise ValueError(f"{size} bytes: a message has at most 2^38 chunks")
  return HEADER + sealed_bytes(size)


def size_of_plain(size: int) -> int:
  """Returns the size of what `size` sealed bytes hold.

  Raises:
    SealError: no message has that size; it was cut.
  """
  try:
    return plain_bytes(size - HEADER) if size >= HEADER else _fail()
  except ValueError:
    raise SealError from None


def _fail() -> int:
  raise SealError


def seal(
  key: bytes,
  data: bytes | bytearray | memoryview,
  context: bytes = b"",
  *,
  salt: bytes | None = None,
) -> bytes:
  """Seals bytes on the host.

  Args:
    key: 16 bytes for Cobblestone-128, 32 for Cobblestone-256, uniform.
    data: what to seal.
    context: what the data is bound to; it is not stored.
    salt: 24 bytes that never repeat under a key; random unless given.

  Returns:
    `size_of_sealed(len(data))` bytes.

  Raises:
    ValueError: the key or the salt has another size, or the data is too long.

  Example:
    >>> key = os.urandom(32)
    >>> unseal(key, seal(key, b"weights", b"model-a"), b"model-a")
    b'weights'
    >>> len(seal(key, b"weights"))
    79
  """
  out = bytearray(size_of_sealed(memoryview(data).nbytes))
  seal_into(key, data, out, context, salt=salt)
  return bytes(out)


def seal_into(
  key: bytes,
  data: bytes | bytearray | memoryview,
  out: bytearray | memoryview,
  context: bytes = b"",
  *,
  salt: bytes | None = None,
) -> None:
  """Seals bytes into memory that is there; see `seal`.

  Args:
    key: as for `seal`.
    data: what to seal.
    out: `size_of_sealed(len(data))` bytes, to be written.
    context: what the data is bound to; it is not stored.
    salt: 24 bytes that never repeat under a key; random unless given.

  Raises:
    ValueError: the key, the salt or `out` has another size, or the data is
      too long.
  """
  view, sealed = memoryview(data).cast("B"), memoryview(out).cast("B")
  if len(sealed) != size_of_sealed(len(view)):
    raise ValueError(f"{len(view)} bytes do not seal into {len(sealed)}")
  salt = checked_salt(salt)
  subkey, base, commitment = derive(key, salt, context)
  sealed[:HEADER] = salt + commitment
  cipher, body, step = AESGCM(subkey), sealed[HEADER:], CHUNK + TAG
  for i in range(len(view) // CHUNK + 1):
    chunk = view[i * CHUNK : (i + 1) * CHUNK]
    target = body[i * step : (i + 1) * step]
    cipher.encrypt_into(nonce_of(base, i), chunk, None, target)


class Opener:
  """The key of one message, after its commitment was checked.

  Example:
    >>> key, out = os.urandom(32), bytearray(3)
    >>> message = memoryview(seal(key, b"abc"))
    >>> Opener(key, message[:HEADER]).into(0, message[HEADER:], out)
    >>> out
    bytearray(b'abc')
  """

  def __init__(
    self, key: bytes, header: bytes | memoryview, context: bytes = b""
  ):
    """Derives the key of a message and checks that it commits to it.

    Args:
      key: what the message was sealed with.
      header: its first `HEADER` bytes.
      context: what it was bound to.

    Raises:
      SealError: another key or context, or the header is damaged.
    """
    header = bytes(header)
    if len(header) != HEADER or len(key) not in _AEADS:
      raise SealError
    subkey, self._base, expected = derive(key, header[:SALT], context)
    if not constant_time.bytes_eq(expected, header[SALT:]):
      raise SealError
    self._cipher = AESGCM(subkey)

  def chunk(self, index: int, chunk: memoryview | bytes) -> bytes:
    """Returns the plaintext of one chunk.

    Raises:
      SealError: the chunk is damaged, or not the one of this index.
    """
    try:
      return self._cipher.decrypt(nonce_of(self._base, index), chunk, None)
    except InvalidTag:
      raise SealError from None

  def into(
    self, first: int, chunks: memoryview, out: bytearray | memoryview
  ) -> None:
    """Opens consecutive chunks into memory that is there.

    Args:
      first: the index of the first chunk.
      chunks: the chunks, tags included.
      out: as many bytes as they hold; not to be used after an error.

    Raises:
      SealError: a chunk is damaged, or not the one of its index.
    """
    target, step = memoryview(out).cast("B"), CHUNK + TAG
    for i in range(-(-len(chunks) // step)):
      chunk = chunks[i * step : (i + 1) * step]
      plain = target[i * CHUNK : (i + 1) * CHUNK]
      nonce = nonce_of(self._base, first + i)
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
  """Opens sealed bytes, or a slice of them, on the host.

  Args:
    key: what they were sealed with.
    sealed: the whole message; a memory map will do.
    context: what they were bound to.
    start: the first byte of the plaintext that is wanted.
    stop: the one after the last; the end if None. A slice reads the chunks
      that hold it, and proves nothing about the others.

  Returns:
    The plaintext, all of it authenticated.

  Raises:
    SealError: anything is wrong with the key, the context or the data.
    ValueError: the slice does not lie within the message.
  """
  view = memoryview(sealed).cast("B")
  opener = Opener(key, view[:HEADER], context)
  size = size_of_plain(len(view))
  stop = size if stop is None else stop
  if not 0 <= start <= stop <= size:
    raise ValueError(f"bytes {start} to {stop} of a message of {size}")
  first, end = start // CHUNK, max(stop - 1, start) // CHUNK + 1
  if stop == size:
    end = size // CHUNK + 1  # Even an empty last chunk proves the end.
  step = CHUNK + TAG
  body = view[HEADER:]
  parts = [
    opener.chunk(i, body[i * step : (i + 1) * step]) for i in range(first, end)
  ]
  return b"".join(parts)[start - first * CHUNK :][: stop - start]


class Reader:
  """Opens a stream chunk by chunk: an iterator of authenticated plaintext.

  Once it has failed it fails for ever; a stream that was cut ends with the
  error, after the chunks before the cut.
  """

  def __init__(self, key: bytes, file: BinaryIO, context: bytes = b""):
    """Begins to read.

    Args:
      key: what the stream was sealed with.
      file: anything with `read`.
      context: what it was bound to.
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
    except StopIteration:  # The generator ended by an error before.
      raise SealError from None
    return chunk

  @staticmethod
  def _open(
    key: bytes, file: BinaryIO, context: bytes
  ) -> Iterator[tuple[bytes, bool]]:
    opener = Opener(key, file.read(HEADER), context)
    for i in range(MAX_CHUNKS):
      sealed = file.read(CHUNK + TAG)
      last = len(sealed) < CHUNK + TAG
      yield opener.chunk(i, sealed), last
      if last:
        return
