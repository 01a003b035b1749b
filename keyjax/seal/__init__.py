"""Sealed data: authenticated encryption bound to a key and a context.

The format is c2sp.org/chunked-encryption, which other implementations can
read: Cobblestone-128 for keys of 16 bytes, Cobblestone-256 for keys of 32. A
message is `salt (24) || commitment (32) || chunk 0 || chunk 1 || ...`; each
chunk is the AES-GCM ciphertext of 16 KiB, the last one shorter. A message
commits to its key, cannot be truncated, reordered or mixed with another, and
any slice of it can be opened without the rest.

Whatever is wrong - key, context, size, a single bit - there is one
deliberately uninformative error, and no unauthenticated byte is returned.
Inside `jit` (`seal_array`, `unseal_array`) the plaintext is replaced by zeros
and a flag is returned.

Cost: one AES-GCM over the bytes, 56 bytes and 0.1 % of overhead, and one key
derivation (a few microseconds) for each message, which is one leaf of a tree.
One key seals 2^45 messages of 1 GiB or 2^25 of 1 TiB; a message of more than
2^38 chunks (4 PiB) is refused.

References:
  C2SP, "Chunked Encryption", c2sp.org/chunked-encryption, 2026.
"""

from typing import TYPE_CHECKING

from keyjax import lazy
from keyjax.errors import SealError

if TYPE_CHECKING:
  from keyjax.seal.arrays import (
    SealKey,
    seal_array,
    seal_key,
    seal_tree,
    unseal_array,
    unseal_tree,
  )
  from keyjax.seal.format import (
    CHUNK_BYTES,
    HEADER_BYTES,
    SALT_BYTES,
    SEALED_CHUNK_BYTES,
    TAG_BYTES,
    size_of_plain,
    size_of_sealed,
  )
  from keyjax.seal.host import Opener, Reader, seal, seal_into, unseal

__all__ = [
  "CHUNK_BYTES",
  "HEADER_BYTES",
  "SALT_BYTES",
  "SEALED_CHUNK_BYTES",
  "TAG_BYTES",
  "Opener",
  "Reader",
  "SealError",
  "SealKey",
  "seal",
  "seal_array",
  "seal_into",
  "seal_key",
  "seal_tree",
  "size_of_plain",
  "size_of_sealed",
  "unseal",
  "unseal_array",
  "unseal_tree",
]

__getattr__, __dir__ = lazy.attach(
  __name__,
  {
    "arrays": (
      "SealKey",
      "seal_array",
      "seal_key",
      "seal_tree",
      "unseal_array",
      "unseal_tree",
    ),
    "format": (
      "CHUNK_BYTES",
      "HEADER_BYTES",
      "SALT_BYTES",
      "SEALED_CHUNK_BYTES",
      "TAG_BYTES",
      "size_of_plain",
      "size_of_sealed",
    ),
    "host": (
      "Opener",
      "Reader",
      "seal",
      "seal_into",
      "unseal",
    ),
  },
)
