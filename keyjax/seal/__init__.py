"""Sealed data: encrypted, authenticated, bound to a key and a context.

The format is c2sp.org/chunked-encryption, read by anything that implements it:
Cobblestone-128 for keys of 16 bytes, Cobblestone-256 for keys of 32. A sealed
message is `salt (24) || commitment (32) || chunk 0 || chunk 1 || ...`, each
chunk the AES-GCM of 16 KiB, the last one shorter. It commits to its key, it
cannot be cut, reordered or mixed with another, and any slice of it opens alone.

Whatever is wrong - key, context, size, a single bit - gives one error that
says nothing else, and no byte that was not authenticated is returned. Inside
`jit` (`seal_array`, `unseal_array`) the plaintext is replaced by zeros and a
flag comes back.

Cost: one AES-GCM over the bytes, 56 bytes and 0.1 % of overhead, and one key
derivation (10 microseconds) a message, that is a leaf. One key seals 2^45
messages of 1 GiB or 2^25 of 1 TiB; a message of more than 2^38 chunks (4 PiB)
is refused.

References:
  C2SP, "Chunked Encryption", c2sp.org/chunked-encryption, 2026.
"""

from keyjax.seal.arrays import (
  SealKey,
  seal_array,
  seal_key,
  seal_tree,
  unseal_array,
  unseal_tree,
)
from keyjax.seal.chunks import open_chunks, seal_chunks
from keyjax.seal.cobblestone import (
  Reader,
  SealError,
  seal,
  size_of_plain,
  size_of_sealed,
  unseal,
)

__all__ = [
  "Reader",
  "SealError",
  "SealKey",
  "open_chunks",
  "seal",
  "seal_array",
  "seal_chunks",
  "seal_key",
  "seal_tree",
  "size_of_plain",
  "size_of_sealed",
  "unseal",
  "unseal_array",
  "unseal_tree",
]
