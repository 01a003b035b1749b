"""AES on the device and on the host: standard, bit-sliced, without tables.

Two realisations give the same bytes. On an accelerator the cipher is a circuit
of AND, XOR and NOT on uint32 lanes (`bitslice`), GHASH a matrix product over
GF(2) (`ghash`), and no address depends on a secret, which a test reads from
the compiled programs. On the host, also inside `jit` on a CPU, OpenSSL does
the work on XLA's own memory (`host`, `ffi`). `impl="auto"` chooses by platform
when a program is lowered; "host" and "device" force one, for tests.

What it costs:

* bytes: linear. Counter mode is 49 32-bit operations a byte for AES-128 and 68
  for AES-256, GCM adds 1,024 int8 multiply-adds a byte on the matrix unit.
  Memory beyond input and output is one tile (`block`), whatever the size.
* leaves: one cipher call for a whole tree (`xor_words`); a leaf adds a
  millisecond of compilation where OpenSSL works, some 20 where the circuit
  does, and nothing at run time.
* devices and hosts: each device makes the keystream of its own shards and
  communicates nothing, so the time falls with their number. A CPU that is cut
  into several devices needs `cryptography` 50 for it: before, OpenSSL's calls
  hold Python's lock.
* keys: another key of the same size compiles nothing.

How much one key may encrypt: one key and counter, or nonce, gives at most
2^32 - 2 blocks (64 GiB), as SP 800-38D has it; a ValueError says so whenever
the sizes are known. At that length a keystream is told from random bits with
a probability of 2^-65. Under many nonces, stay below 2^32 messages of GCM
with random nonces, or use `keyjax.seal`, which derives a key a message.

What it does not do: round keys and keystreams lie in ordinary memory and are
not wiped, and nothing is claimed about side channels of hardware that is
shared.
"""

from keyjax.aes.block import decrypt_blocks, encrypt_blocks
from keyjax.aes.ctr import keystream
from keyjax.aes.gcm import gcm_open, gcm_seal
from keyjax.aes.kdf import cmac, derive
from keyjax.aes.leaves import pads, xor_words
from keyjax.aes.schedule import expand_key

__all__ = [
  "cmac",
  "decrypt_blocks",
  "derive",
  "encrypt_blocks",
  "expand_key",
  "gcm_open",
  "gcm_seal",
  "keystream",
  "pads",
  "xor_words",
]
