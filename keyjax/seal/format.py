"""The message format of c2sp.org/chunked-encryption: sizes and key derivation.

A message is `salt (24) || commitment (32) || chunk 0 || chunk 1 || ...`. Each
chunk is the AES-GCM ciphertext and tag of 16 KiB of plaintext under a key
derived for this message; the last chunk is shorter, and may be empty.

References:
  C2SP, "Chunked Encryption", c2sp.org/chunked-encryption, 2026.
"""

import os

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from keyjax.errors import SealError

CHUNK_BYTES = 1 << 14
TAG_BYTES = 16
SALT_BYTES = 24
HEADER_BYTES = 56
SEALED_CHUNK_BYTES = CHUNK_BYTES + TAG_BYTES
MAX_CHUNKS = 2**38
AEAD_NAMES = {16: b"AEAD_AES_128_GCM", 32: b"AEAD_AES_256_GCM"}


def derive(
  key: bytes, salt: bytes, context: bytes
) -> tuple[bytes, bytes, bytes]:
  """Return the message's key, base nonce and commitment."""
  if len(key) not in AEAD_NAMES:
    raise ValueError(f"a sealing key has 16 or 32 bytes, got {len(key)}")
  prefix = b"c2sp.org/chunked-encryption@v1+" + AEAD_NAMES[len(key)] + b"\x00"
  n = len(key)
  hkdf = HKDFExpand(hashes.SHA512(), n + 44, prefix + salt + context)
  derived = hkdf.derive(key)
  return derived[:n], derived[n : n + 12], derived[n + 12 :]


def checked_salt(salt: bytes | None) -> bytes:
  """Return the salt, or a random one for None."""
  if salt is None:
    return os.urandom(SALT_BYTES)
  if len(salt) != SALT_BYTES:
    raise ValueError(f"a salt has {SALT_BYTES} bytes, got {len(salt)}")
  return salt


def chunk_nonce(base_nonce: bytes, index: int) -> bytes:
  """Return the nonce of a chunk: the base nonce XOR the chunk's index.

  Raises:
    ValueError: If no message has a chunk of that index.
  """
  if not 0 <= index < MAX_CHUNKS:
    raise ValueError(f"chunk {index}: a message has chunks 0 to 2^38 - 1")
  return (int.from_bytes(base_nonce, "big") ^ index).to_bytes(12, "big")


def size_of_chunks(size: int) -> int:
  """Return the size of the chunks that hold `size` bytes, tags included."""
  return size + TAG_BYTES * (size // CHUNK_BYTES + 1)


def size_in_chunks(size: int) -> int:
  """Return the plaintext size of `size` bytes of chunks.

  Raises:
    ValueError: If no message has chunks of that total size.
  """
  full, last = divmod(size, SEALED_CHUNK_BYTES)
  if last < TAG_BYTES:
    raise ValueError(f"{size} bytes do not end with a chunk that is not full")
  return full * CHUNK_BYTES + last - TAG_BYTES


def size_of_sealed(size: int) -> int:
  """Return the size of the sealed form of `size` bytes.

  Raises:
    ValueError: If a message cannot be that long.
  """
  if size // CHUNK_BYTES + 1 > MAX_CHUNKS:
    raise ValueError(f"{size} bytes: a message has at most 2^38 chunks")
  return HEADER_BYTES + size_of_chunks(size)


def size_of_plain(size: int) -> int:
  """Return the plaintext size of a message of `size` bytes.

  Raises:
    SealError: If no message has that size; it was truncated.
  """
  if size < HEADER_BYTES:
    raise SealError
  try:
    return size_in_chunks(size - HEADER_BYTES)
  except ValueError:
    raise SealError from None
